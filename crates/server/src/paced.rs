//! What is counted over everybody, for whoever looks: at most for a twentieth of the time, however many look and however
//! often. In a small network that is as good as at each look; in a large one what they see is some seconds old.

use std::time::Duration;

use tokio::{sync::Mutex, time::Instant};

/// After a count that took a second, the next waits twenty.
const SHARE: u32 = 20;

/// The last count, and until when it is good.
#[derive(Debug, Default)]
pub struct Paced<T>(Mutex<Option<(Instant, T)>>);

impl<T: Copy> Paced<T> {
    /// The last count while it is good, and otherwise a new one. Whoever comes meanwhile waits for that.
    ///
    /// # Errors
    /// When it cannot be counted; the next who comes tries again.
    pub async fn get<E>(&self, count: impl AsyncFnOnce() -> Result<T, E>) -> Result<T, E> {
        let mut last = self.0.lock().await;
        if let Some((until, value)) = *last
            && Instant::now() < until
        {
            return Ok(value);
        }
        let began = Instant::now();
        let value = count().await?;
        let took = began.elapsed().min(Duration::from_secs(3));
        *last = Some((Instant::now() + took * SHARE, value));
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_looks_again_soon_sees_what_was_counted() {
        let paced = Paced::default();
        let count = async |value: u32| {
            let counted = async || {
                tokio::time::sleep(Duration::from_millis(100)).await;
                Ok::<_, ()>(value)
            };
            paced.get(counted).await
        };
        assert_eq!(paced.get(async || Err(())).await, Err(()));
        assert_eq!(count(1).await, Ok(1), "what failed is tried again");
        assert_eq!(count(2).await, Ok(1), "it is good for two seconds and more");
        while count(3).await == Ok(1) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(count(4).await, Ok(3), "and then it is counted again");
    }
}
