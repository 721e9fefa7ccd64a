//! Sockets with room for a burst.

use std::{
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
};

use socket2::{Domain, Protocol, Socket, Type};

/// Room asked for in a UDP socket, in bytes; the system may give less.
const UDP_BUFFER_BYTES: usize = 16 << 20;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

/// A UDP socket at `at`.
///
/// # Errors
/// When the address cannot be had.
pub fn udp(at: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(at), Type::DGRAM, Some(Protocol::UDP))?;
    // Best effort: a smaller buffer loses datagrams in a burst, and workers send them again.
    let _ = socket.set_recv_buffer_size(UDP_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(UDP_BUFFER_BYTES);
    socket.set_nonblocking(true)?;
    socket.bind(&at.into())?;
    Ok(socket.into())
}

/// A TCP listener at `at`.
///
/// # Errors
/// When the address cannot be had.
pub fn tcp(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&at.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
