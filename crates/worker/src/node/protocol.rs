//! What a worker and the node inside the sandbox say to each other over the node's stdin and
//! stdout: one order in, reports out, one JSON object a line; after `ready`, yamux both ways.
//!
//! Refuses to know how the sandbox was made. Neither side trusts the other's line lengths.

use std::{collections::BTreeMap, io};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt};

/// The version of this conversation; a node of another version is refused.
pub const VERSION: u32 = 1;
/// Longest line either side reads: 64 KiB holds every order and report many times over.
pub const LINE_BYTES_MAX: usize = 64 * 1024;
/// Where Ray's dashboard and Jobs API listen inside the sandbox.
pub const DASHBOARD_PORT: u16 = 8265;

/// What the node shall run. It starts nothing before it has read this, so that the worker can
/// check the sandbox first. Holds the cluster's token, therefore has no `Debug`.
#[derive(Serialize, Deserialize)]
#[serde(tag = "program", rename_all = "snake_case")]
pub enum Order {
    /// A one-node Ray cluster, its dashboard behind the mux.
    Ray {
        /// The cluster's secret; Ray gets it through its environment.
        token: String,
        /// Logical CPUs that Ray may hand out.
        cpus: u32,
        /// Logical GPUs that Ray may hand out.
        gpus: u32,
        /// Memory that Ray may hand out to tasks, in bytes.
        memory_bytes: u64,
        /// Size of Ray's object store in shared memory, in bytes.
        object_store_bytes: u64,
    },
    /// A plain program without Ray; its output is the node's log, its exit code the node's.
    Command {
        /// The program and its arguments; never empty.
        argv: Vec<String>,
        /// Variables beside those that every node has.
        env: BTreeMap<String, String>,
    },
}

/// What the node tells the worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "snake_case")]
pub enum Report {
    /// The first line: the node runs and waits for its order.
    Hello {
        /// The node's [`VERSION`].
        version: u32,
    },
    /// A step of starting, in words for a person.
    Progress {
        /// What is being done now.
        step: String,
    },
    /// The program runs (Ray: its dashboard and Jobs API answer). Yamux begins after this line.
    Ready,
    /// The program could not be started. The node exits after this line.
    Failed {
        /// Why, in words for a person.
        reason: String,
    },
}

/// Writes one object as a line and flushes it.
///
/// # Errors
/// When the other side is gone.
pub async fn write_line(to: &mut (impl AsyncWrite + Unpin), value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value).map_err(io::Error::other)?;
    line.push(b'\n');
    to.write_all(&line).await?;
    to.flush().await
}

/// Reads one line of at most [`LINE_BYTES_MAX`]; `None` at the end of the stream.
///
/// # Errors
/// When reading fails, the line is too long, is cut off, or is not such an object.
pub async fn read_line<T: for<'de> Deserialize<'de>>(
    from: &mut (impl AsyncBufRead + Unpin),
) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    loop {
        let chunk = from.fill_buf().await?;
        if chunk.is_empty() {
            if line.is_empty() {
                return Ok(None);
            }
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the line was cut off"));
        }
        let (take, done) = match chunk.iter().position(|b| *b == b'\n') {
            Some(at) => (at + 1, true),
            None => (chunk.len(), false),
        };
        if line.len() + take > LINE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the line is longer than 64 KiB"));
        }
        line.extend_from_slice(&chunk[..take]);
        from.consume(take);
        if done {
            // The parser's own message could quote the line, and an order holds a secret.
            return serde_json::from_slice(&line)
                .map(Some)
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the line is not a known message"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> io::Result<Option<Report>> {
        read_line(&mut tokio::io::BufReader::with_capacity(7, bytes)).await
    }

    #[tokio::test]
    async fn a_line_is_read_whole_and_what_follows_is_left() {
        let mut bytes = Vec::new();
        write_line(&mut bytes, &Report::Hello { version: 1 }).await.unwrap();
        bytes.extend_from_slice(b"\0yamux");
        let mut reader = tokio::io::BufReader::with_capacity(5, &bytes[..]);
        assert_eq!(read_line(&mut reader).await.unwrap(), Some(Report::Hello { version: 1 }));
        let mut rest = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut rest).await.unwrap();
        assert_eq!(rest, b"\0yamux");
    }

    #[tokio::test]
    async fn cut_long_and_foreign_lines_are_refused() {
        assert!(read(b"").await.unwrap().is_none());
        assert_eq!(read(b"{\"report\":").await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(read(b"{\"report\":\"hm\"}\n").await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(
            read(&vec![b' '; LINE_BYTES_MAX + 1]).await.unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }
}
