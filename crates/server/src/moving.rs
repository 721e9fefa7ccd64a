//! Moves the network of a data folder into a database of PostgreSQL, while no server has it. The network's key and the
//! journals of beats stay in the folder, where the next start finds them.

use std::path::Path;

use gangline_guard::{Actor, Job, act, permit::permit, policy::on};
use gangline_store::{Compared, DatabaseUrl, FolderLock, Store};

use crate::{edge, error::ApiError, run, run::ServeError};

/// Moves the books in `data` into the empty database at `url`, and says what was compared on both sides. `told` hears
/// of each table once it is written, with its rows. The network's key is in `key`, or in the data folder.
///
/// # Errors
/// When a server has the folder, there are no books or no key in it, the database holds something, or what was written
/// does not read as what was read. The database holds nothing then.
pub async fn move_books(
    data: &Path,
    key: Option<&Path>,
    url: &DatabaseUrl,
    told: impl FnMut(&str, u64) + Send,
) -> Result<Vec<Compared>, ServeError> {
    for needed in ["gangline.sqlite", "public.sqlite"] {
        if !data.join(needed).is_file() {
            let data = data.display();
            return Err(ServeError::Config(format!("there is no network in {data}: it has no {needed}")));
        }
    }
    // Before anything is asked of the database: whoever moves has the folder.
    drop(FolderLock::take(data)?);
    let key = run::known_key(key.unwrap_or(&data.join(run::NETWORK_KEY)))?;
    let target = run::connect(url, &key).await?;
    let setup = permit::<act::MoveBooks>(&Actor::job(Job::Setup), on::Network, edge::now())
        .map_err(ApiError::from)?;
    let moved = Store::move_books(setup, data, &target, url, told).await;
    target.close().await;
    Ok(moved?)
}
