//! Just enough HTTP/1.1 to carry frames over kept connections: `POST /api/v1/beat` with a length, and nothing
//! else. Knows bytes, not sockets.

use gangline_wire::beat::{BEAT_BYTES, FRAMES_MAX};

/// Longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 4096;
/// Headers of one request.
const HEADERS_MAX: usize = 32;

/// What the bytes so far are.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Not a whole request yet.
    Partial,
    /// Frames, in that range of the bytes; the request ends with them.
    Frames(std::ops::Range<usize>),
    /// Somebody asks whether we are here; the request ends there.
    Healthz(usize),
    /// Not for us: answer with this status and close.
    Refused(u16),
}

/// Reads one request from the start of `bytes`.
pub fn parse(bytes: &[u8]) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let head = match request.parse(bytes) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES_MAX => return Parsed::Partial,
        Ok(httparse::Status::Partial) => return Parsed::Refused(431),
        Err(_) => return Parsed::Refused(400),
    };
    if (request.method, request.path) == (Some("GET"), Some("/healthz")) {
        return Parsed::Healthz(head);
    }
    if (request.method, request.path) != (Some("POST"), Some("/api/v1/beat")) {
        return Parsed::Refused(404);
    }
    let mut length = None;
    for header in request.headers.iter() {
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Parsed::Refused(411);
        }
        if header.name.eq_ignore_ascii_case("content-length") {
            // Twice could mean two things to two readers.
            let value =
                std::str::from_utf8(header.value).ok().filter(|v| v.bytes().all(|b| b.is_ascii_digit()));
            let value = value.and_then(|v| v.parse::<usize>().ok());
            if length.is_some() || value.is_none() {
                return Parsed::Refused(400);
            }
            length = value;
        }
    }
    let Some(length) = length else { return Parsed::Refused(411) };
    if length == 0 || !length.is_multiple_of(BEAT_BYTES) || length > FRAMES_MAX * BEAT_BYTES {
        return Parsed::Refused(413);
    }
    if bytes.len() < head + length { Parsed::Partial } else { Parsed::Frames(head..head + length) }
}

/// A whole answer with this status and body.
pub fn answer(status: u16, body: &[u8], close: bool, out: &mut Vec<u8>) {
    let reason = match status {
        200 => "200 OK",
        400 => "400 Bad Request",
        401 => "401 Unauthorized",
        404 => "404 Not Found",
        411 => "411 Length Required",
        413 => "413 Content Too Large",
        431 => "431 Request Header Fields Too Large",
        _ => "503 Service Unavailable",
    };
    let connection = if close { "connection: close\r\n" } else { "" };
    use std::io::Write;
    let _ = write!(
        out,
        "HTTP/1.1 {reason}\r\n{connection}content-type: application/octet-stream\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    out.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_whole_or_refused() {
        let check = |text: &str, expected| assert_eq!(parse(text.as_bytes()), expected, "{text:?}");
        let body = "x".repeat(BEAT_BYTES);
        let head = "POST /api/v1/beat HTTP/1.1\r\nhost: a\r\ncontent-length: 64\r\n\r\n";
        check(&format!("{head}{body}"), Parsed::Frames(head.len()..head.len() + 64));
        check(&format!("{head}{body}POST"), Parsed::Frames(head.len()..head.len() + 64));
        check(&format!("{head}{}", &body[1..]), Parsed::Partial);
        check("POST /api/v1/be", Parsed::Partial);
        check("", Parsed::Partial);
        check("GET /healthz HTTP/1.1\r\n\r\n", Parsed::Healthz(25));
        check("GET / HTTP/1.1\r\n\r\n", Parsed::Refused(404));
        check("\u{16}\u{3}\u{1}", Parsed::Refused(400));
        check("POST /api/v1/beat HTTP/1.1\r\n\r\n", Parsed::Refused(411));
        check("POST /api/v1/beat HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n", Parsed::Refused(411));
        for length in ["63", "0", "8192"] {
            check(
                &format!("POST /api/v1/beat HTTP/1.1\r\ncontent-length: {length}\r\n\r\n"),
                Parsed::Refused(413),
            );
        }
        for length in ["-64", "+64", "64\r\ncontent-length: 64", "x", "99999999999999999999999"] {
            check(
                &format!("POST /api/v1/beat HTTP/1.1\r\ncontent-length: {length}\r\n\r\n"),
                Parsed::Refused(400),
            );
        }
        check(&format!("POST /api/v1/beat HTTP/1.1\r\na: {}", "x".repeat(5000)), Parsed::Refused(431));
    }
}
