//! LISTEN on one connection. Triggers tell, so that whatever commits is told of and what does not is not.

use gangline_types::MachineId;
use sqlx::postgres::PgListener;

use super::PostgresStore;
use crate::{StoreError, books::told::Told};

const DOING: &str = "listening to the other servers";

/// A connection that listens.
pub(crate) struct PostgresTold(PgListener);

impl PostgresStore {
    pub(crate) async fn hear(&self) -> Result<PostgresTold, StoreError> {
        let mut listener = PgListener::connect_with(&self.pool).await.map_err(StoreError::sql(DOING))?;
        listener.listen("gangline").await.map_err(StoreError::sql(DOING))?;
        Ok(PostgresTold(listener))
    }
}

/// What a message says.
fn read(message: &str) -> Told {
    let machine = |hex: &str| {
        let bytes: Option<Vec<u8>> = (0..16)
            .map(|at| hex.get(2 * at..2 * at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()))
            .collect();
        bytes.filter(|_| hex.len() == 32).and_then(|bytes| bytes.try_into().ok()).map(MachineId::from_bytes)
    };
    match message.split_once(' ') {
        None if message == "ended" => Told::Ended,
        Some(("cluster", hex)) => machine(hex).map_or(Told::Something, Told::Cluster),
        _ => Told::Something,
    }
}

impl PostgresTold {
    pub(crate) async fn next(&mut self) -> Result<Told, StoreError> {
        // None: the connection was lost and is there again; what was told meanwhile was not heard.
        let heard = self.0.try_recv().await.map_err(StoreError::sql(DOING))?;
        Ok(heard.map_or(Told::Something, |message| read(message.payload())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_or_makes_everybody_look() {
        let machine = MachineId::from_bytes([0xab; 16]);
        assert_eq!(read("ended"), Told::Ended);
        assert_eq!(read(&format!("cluster {}", "ab".repeat(16))), Told::Cluster(machine));
        for odd in
            ["", "cluster", "cluster ab", "cluster é", "later 1", &format!("cluster {}", "ab".repeat(17))]
        {
            assert_eq!(read(odd), Told::Something, "{odd}");
        }
    }
}
