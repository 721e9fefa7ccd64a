//! Where a large body waits until all of it has come and is found to be the one that was signed for: nothing of it
//! goes on before. Up to a bound in memory, beyond that in a file without a name, so that a crash leaves nothing.
//!
//! There is so much room and no more, in memory and in all, and one account never has more than a quarter of it.
//! Knows neither who asks nor where the body goes.

use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::body::{Body, Bytes};
use gangline_store::StoreError;
use gangline_types::AccountId;
use gangline_wire::sig::Digesting;
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use tokio::{
    fs::File,
    io::{AsyncSeekExt, AsyncWriteExt},
};
use tokio_util::io::ReaderStream;

use crate::error::ApiError;

/// Bytes of one body that are held in memory at most: 1 MiB.
pub const BODY_IN_MEMORY_BYTES_MAX: usize = 1 << 20;
/// Bytes of all bodies together that are held in memory at most: 32 MiB, one in each of 32 connections.
const IN_MEMORY_BYTES_MAX: u64 = 32 << 20;
/// Bytes read from a file or written to it at once.
const CHUNK_BYTES: usize = 64 << 10;

/// All the room there is.
#[derive(Clone)]
pub struct Spools(Arc<Shared>);

struct Shared {
    folder: PathBuf,
    bytes_max: u64,
    used: Mutex<Used>,
}

#[derive(Default)]
struct Used {
    in_memory: u64,
    in_all: u64,
    by_account: HashMap<AccountId, u64>,
}

/// What one body takes of the room; given back when it is dropped.
struct Room {
    spools: Spools,
    account: AccountId,
    in_memory: u64,
    in_all: u64,
}

impl Room {
    /// Takes more; none is left where the answer is no.
    fn grow(&mut self, bytes: u64) -> bool {
        let mut used = self.spools.used();
        let bytes_max = self.spools.0.bytes_max;
        let own = used.by_account.get(&self.account).copied().unwrap_or_default() + bytes;
        if used.in_all + bytes > bytes_max || own > bytes_max / 4 {
            return false;
        }
        used.by_account.insert(self.account, own);
        used.in_all += bytes;
        self.in_all += bytes;
        true
    }

    /// Whether more may be held in memory; if so, it is taken.
    fn hold(&mut self, bytes: u64) -> bool {
        let mut used = self.spools.used();
        let own = self.in_memory + bytes;
        if own > BODY_IN_MEMORY_BYTES_MAX as u64 || used.in_memory + bytes > IN_MEMORY_BYTES_MAX {
            return false;
        }
        used.in_memory += bytes;
        self.in_memory = own;
        true
    }

    /// Nothing of it is in memory any more.
    fn leave_memory(&mut self) {
        self.spools.used().in_memory -= self.in_memory;
        self.in_memory = 0;
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut used = self.spools.used();
        used.in_memory -= self.in_memory;
        used.in_all -= self.in_all;
        if let Some(own) = used.by_account.get_mut(&self.account) {
            *own -= self.in_all;
            if *own == 0 {
                used.by_account.remove(&self.account);
            }
        }
    }
}

/// A whole body.
pub struct Spool {
    kept: Kept,
    bytes: u64,
    digest: [u8; 32],
    room: Room,
}

enum Kept {
    InMemory(Bytes),
    InFile(File),
}

fn of_disk(error: &io::Error) -> ApiError {
    if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        return ApiError::Store(StoreError::Full);
    }
    tracing::error!(error = error as &dyn std::error::Error, "a body could not be put into a file");
    ApiError::Store(StoreError::Malformed("a body could not be put into a file".into()))
}

impl Spools {
    /// Room for so many bytes in all, in files of this folder.
    pub fn new(folder: PathBuf, bytes_max: u64) -> Self {
        Self(Arc::new(Shared { folder, bytes_max, used: Mutex::default() }))
    }

    fn used(&self) -> std::sync::MutexGuard<'_, Used> {
        self.0.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that are taken now: in memory, and in all.
    pub fn taken(&self) -> (u64, u64) {
        let used = self.used();
        (used.in_memory, used.in_all)
    }

    /// Takes a body of at most `bytes_max` that comes within `wait`.
    ///
    /// # Errors
    /// As a refusal: larger, slower or broken off, or no room is left for it.
    pub async fn receive(
        &self,
        body: Body,
        account: AccountId,
        bytes_max: usize,
        wait: Duration,
    ) -> Result<Spool, ApiError> {
        tokio::time::timeout(wait, self.take(body, account, bytes_max))
            .await
            .map_err(|_| ApiError::too_slow(wait))?
    }

    async fn take(&self, mut body: Body, account: AccountId, bytes_max: usize) -> Result<Spool, ApiError> {
        let mut room = Room { spools: self.clone(), account, in_memory: 0, in_all: 0 };
        let mut digesting = Digesting::default();
        let mut bytes = 0u64;
        let mut held: Vec<Bytes> = Vec::new();
        let mut file: Option<File> = None;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| ApiError::broken_off())?;
            let Ok(data) = frame.into_data() else { continue };
            let more = data.len() as u64;
            bytes += more;
            if bytes > bytes_max as u64 {
                return Err(ApiError::too_large(bytes_max));
            }
            if !room.grow(more) {
                return Err(ApiError::NoRoom { bytes_max: self.0.bytes_max });
            }
            digesting.update(&data);
            match &mut file {
                None if room.hold(more) => held.push(data),
                None => {
                    let made = tempfile::tempfile_in(&self.0.folder).map_err(|e| of_disk(&e))?;
                    let mut made = File::from_std(made);
                    made.set_max_buf_size(CHUNK_BYTES);
                    for part in held.drain(..).chain([data]) {
                        made.write_all(&part).await.map_err(|e| of_disk(&e))?;
                    }
                    room.leave_memory();
                    file = Some(made);
                }
                Some(file) => file.write_all(&data).await.map_err(|e| of_disk(&e))?,
            }
        }
        let kept = match file {
            None => Kept::InMemory(held.concat().into()),
            Some(mut file) => {
                file.flush().await.map_err(|e| of_disk(&e))?;
                file.rewind().await.map_err(|e| of_disk(&e))?;
                Kept::InFile(file)
            }
        };
        Ok(Spool { kept, bytes, digest: digesting.finish(), room })
    }
}

impl Spool {
    /// SHA-256 of all of it.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }
    /// Whether it waits in a file.
    pub fn is_in_file(&self) -> bool {
        matches!(self.kept, Kept::InFile(_))
    }
    /// It, to be sent on.
    pub fn into_body(self) -> Body {
        match self.kept {
            // What is sent on now is a connection's own buffer's matter.
            Kept::InMemory(bytes) => Body::from(bytes),
            Kept::InFile(file) => Body::new(FromFile {
                parts: ReaderStream::with_capacity(file, CHUNK_BYTES),
                left: self.bytes,
                _room: self.room,
            }),
        }
    }
}

/// A body out of a file; its room is given back once it was sent or dropped.
struct FromFile {
    parts: ReaderStream<File>,
    left: u64,
    _room: Room,
}

impl hyper::body::Body for FromFile {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        match futures_util::Stream::poll_next(Pin::new(&mut self.parts), cx) {
            Poll::Ready(Some(Ok(part))) => {
                self.left = self.left.saturating_sub(part.len() as u64);
                Poll::Ready(Some(Ok(Frame::data(part))))
            }
            Poll::Ready(None) => Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into()))),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn account(n: u8) -> AccountId {
        AccountId::from_bytes([n; 16])
    }

    fn body(bytes: usize) -> Body {
        let parts = (0..bytes.div_ceil(CHUNK_BYTES)).map(move |n| {
            let part = vec![n as u8; CHUNK_BYTES.min(bytes - n * CHUNK_BYTES)];
            Ok::<_, io::Error>(Bytes::from(part))
        });
        Body::from_stream(futures_util::stream::iter(parts))
    }

    async fn whole(body: Body) -> Bytes {
        body.collect().await.unwrap().to_bytes()
    }

    fn spools(folder: &tempfile::TempDir, mib: usize) -> Spools {
        Spools::new(folder.path().to_owned(), (mib * MIB) as u64)
    }

    async fn receive(spools: &Spools, who: u8, bytes: usize) -> Result<Spool, ApiError> {
        spools.receive(body(bytes), account(who), 8 * MIB, Duration::from_secs(60)).await
    }

    #[tokio::test]
    async fn what_is_small_stays_in_memory_and_what_is_large_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let spools = spools(&folder, 64);
        for (bytes, in_file) in [(0, false), (5, false), (MIB, false), (MIB + 1, true), (8 * MIB, true)] {
            let spool = receive(&spools, 1, bytes).await.unwrap();
            assert_eq!(spool.is_in_file(), in_file, "{bytes}");
            let in_memory = if in_file { 0 } else { bytes as u64 };
            assert_eq!(spools.taken(), (in_memory, bytes as u64));
            let expected = whole(body(bytes)).await;
            assert_eq!(spool.digest(), &gangline_wire::sig::digest(&expected));
            let sent_on = spool.into_body();
            assert_eq!(hyper::body::Body::size_hint(&sent_on).exact(), Some(bytes as u64));
            assert_eq!(whole(sent_on).await, expected);
            assert_eq!(spools.taken(), (0, 0), "room was not given back");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "a file had a name");
    }

    #[tokio::test]
    async fn there_is_so_much_room_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let spools = spools(&folder, 16);
        let Err(ApiError::NoRoom { .. }) = receive(&spools, 1, 5 * MIB).await else {
            panic!("one account had more than a quarter")
        };
        assert_eq!(spools.taken(), (0, 0), "a refused body has room");
        let mut held = Vec::new();
        for who in 0..4 {
            held.push(receive(&spools, who, 4 * MIB).await.unwrap());
        }
        let Err(refused) = receive(&spools, 9, 1).await else { panic!("there was more room than all") };
        assert_eq!((refused.status().as_u16(), refused.body().code.as_str()), (503, "no_room"));
        held.pop();
        assert!(receive(&spools, 9, 1).await.is_ok(), "what was given back cannot be taken");
        drop(held);
        assert_eq!(spools.taken(), (0, 0));
        let roomy = self::spools(&folder, 64);
        let Err(refused) = receive(&roomy, 9, 8 * MIB + 1).await else { panic!("it was too large") };
        assert_eq!(refused.status().as_u16(), 413);
        assert_eq!(roomy.taken(), (0, 0));
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let spools = spools(&folder, 64);
        let parts = [Ok(Bytes::from(vec![0; 2 * MIB])), Err(io::Error::other("gone"))];
        let body = Body::from_stream(futures_util::stream::iter(parts));
        let Err(refused) = spools.receive(body, account(1), 8 * MIB, Duration::from_secs(60)).await else {
            panic!("half a body was taken")
        };
        assert_eq!(refused.body().code, "body_incomplete");
        assert_eq!(spools.taken(), (0, 0));
    }
}
