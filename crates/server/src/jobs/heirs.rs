//! Folds what servers that are no more have acknowledged and left in the shared journal. Doing so beside the server itself, which was only paused, changes nothing: minutes are OR-ed.

use gangline_store::LeftBehind;

use super::clusters::reconciler;
use crate::{app::App, edge, error::ApiError, intake, jobs::beats, lanes};

/// Folds what was left behind, until there is nothing.
pub async fn inherit(app: &App) -> Result<(), ApiError> {
    while let Some(left) = app.store.left_behind(&reconciler(edge::now())?).await? {
        let now = app.lanes.clock.now();
        let (lanes, deepest) = lanes::known(&app.store, now).await?;
        let LeftBehind { lines, .. } = &left;
        let mut fold = intake::fold_of(&lanes, &deepest, lines, now);
        fold.taken_at = edge::now();
        tracing::info!(
            lines = lines.len(),
            "beats that another server acknowledged and left behind are taken over"
        );
        beats::fold_beside(app, fold).await?;
        app.store.forget_left_behind(&reconciler(edge::now())?, &left).await?;
        app.changed();
    }
    Ok(())
}
