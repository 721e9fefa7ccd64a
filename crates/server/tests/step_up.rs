//! Acts that take a fresh sign-in: a session that somebody left open an hour ago ends nothing of others and lets
//! nobody in; what is one's own goes on; and signing in again is enough.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod net;

use gangline_types::AdapterKind;
use net::{Browser, Net};
use sqlx::sqlite::SqliteConnectOptions;

/// Time that passes for every session, put into the books behind the server's back.
async fn an_hour_passes(net: &Net) {
    let options = SqliteConnectOptions::new().filename(net.folder.path().join("gangline.sqlite"));
    let books = sqlx::SqlitePool::connect_with(options).await.unwrap();
    sqlx::query("UPDATE session SET created_at = created_at - 3600").execute(&books).await.unwrap();
    books.close().await;
}

/// A further link for the operator's own account, not used yet.
async fn operator_link(net: &Net) -> String {
    let console = net.page(&net.operator, "/console").await.text();
    let own = console.split("<tr>").find(|row| row.contains("<bdi>operator</bdi>")).unwrap();
    let own = net::hidden(own, "account");
    let page = net.form(&net.operator, "/console/invite", &[("account", own.as_str())]).await;
    let text = page.text();
    let at = text.find("/enter/").unwrap_or_else(|| panic!("no link in {text}"));
    format!("{}{}", net.origin, &text[at..at + "/enter/".len() + 64])
}

async fn refused(net: &Net, who: &Browser, path: &str, fields: &[(&str, &str)]) {
    let answer = net.form(who, path, fields).await;
    let text = answer.text();
    assert_eq!(answer.status, 403, "{path} was done by a session that is not fresh: {text}");
    assert!(text.contains("within the last 15 minutes") && text.contains("Nothing was done"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_grew_old_does_nothing_dangerous_until_somebody_signs_in_again() {
    let net = Net::start().await;
    let ada = net.invite("supplier", "Ada").await;
    let (key, gpu) = net.machine(&ada, "llvmpipe", AdapterKind::Software).await;
    let link = operator_link(&net).await;
    an_hour_passes(&net).await;

    let revoke = format!("/console/keys/{}/revoke", key.public().id());
    refused(&net, &net.operator, &revoke, &[]).await;
    refused(&net, &net.operator, "/console/invite", &[("role", "renter"), ("name", "Eve")]).await;
    refused(&net, &net.operator, "/account/passkeys/ask", &[]).await;
    refused(&net, &ada, "/account/passkeys/ask", &[]).await;
    assert_eq!(net.beat(&key, gpu).await.refused.len(), 0, "the key was ended all the same");
    assert_eq!(net.page(&net.operator, "/console").await.status, 200, "looking takes no fresh sign-in");

    // The same browser signs in again; the session it had is over.
    let again = net.enter(&link).await;
    assert_eq!(net.form(&again, &revoke, &[]).await.status, 303);
    let ended = net.call(&key, "GET", "/api/v1/me", &()).await;
    assert_eq!(ended.error().code, "revoked_key");

    // Her sessions end as well, and nobody but an operator does that.
    let console = net.page(&again, "/console").await.text();
    let row =
        console.split("<tr>").find(|row| row.contains("<bdi>Ada</bdi>") && row.contains("sessions/end"));
    let path = row.unwrap().split("action=\"").find(|form| form.contains("sessions/end\"")).unwrap();
    let path = path.split('"').next().unwrap();
    let other = net.invite_as(&again, "supplier", "Ben").await;
    assert_eq!(net.form(&other, path, &[]).await.status, 404);
    refused(&net, &net.operator, path, &[]).await;
    assert_eq!(net.page(&ada, "/console").await.status, 200);
    assert_eq!(net.form(&again, path, &[]).await.status, 303);
    assert_eq!(net.page(&ada, "/console").await.status, 401, "a session goes on");
    let ada = net.invite_as(&again, "supplier", "Ada").await;

    // What is one's own: a supplier ends her own key with an old session.
    let (own, _) = net.machine(&ada, "llvmpipe", AdapterKind::Software).await;
    an_hour_passes(&net).await;
    let revoke = format!("/console/keys/{}/revoke", own.public().id());
    assert_eq!(net.form(&ada, &revoke, &[]).await.status, 303);
    net.stop().await;
}
