//! `rent connect`: a cluster's Ray on this machine's loopback, for an unchanged `ray job submit`, any
//! Ray library and the dashboard in a browser. What passes is signed here with the renter's key; the
//! token that is asked for opens this one door and is worth nothing elsewhere.
//!
//! Listens on loopback only and refuses every other address. Knows no Ray: it passes requests on.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use gangline_types::ClusterId;
use gangline_worker::client::Client;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use super::{
    Output, Which, print_text,
    proxy::{Gate, Passage, Token},
    show,
    state::write_private,
    stop::Stop,
};
use crate::problem::Problem;

/// Connections open at once; a dashboard in a browser uses six.
const CONNECTIONS_MAX: usize = 256;
/// Headers must be in after this long.
const HEADERS_WAIT: Duration = Duration::from_secs(30);

/// What `rent connect` is asked.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// Where to listen on this machine; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0", value_parser = loopback)]
    listen: SocketAddr,
    /// Write the token to this file, readable by you only, instead of printing it.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// An address of this machine's loopback.
fn loopback(text: &str) -> Result<SocketAddr, String> {
    let host = text.strip_prefix("localhost:").map(|port| format!("{}:{port}", Ipv4Addr::LOCALHOST));
    let address: SocketAddr = host
        .as_deref()
        .unwrap_or(text)
        .parse()
        .map_err(|_| "expected an address and a port, for example 127.0.0.1:8265".to_owned())?;
    let loopback = match address.ip() {
        IpAddr::V4(ip) => ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_loopback(),
    };
    if loopback {
        Ok(address)
    } else {
        Err(format!("{} is not loopback: whoever reaches it could run programs at your cost", address.ip()))
    }
}

pub async fn run(client: Client, output: Output, args: Args) -> anyhow::Result<()> {
    let cluster = show::running(&client, args.which).await?.id;
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("could not listen on {}", args.listen))
        .map_err(|error| {
            error.context(
                Problem::new("the cluster is not connected")
                    .hint("choose another port with --listen 127.0.0.1:0"),
            )
        })?;
    let address = listener.local_addr()?;
    let token = Token::random()?;
    if let Some(path) = &args.token_file {
        write_private(path, token.text().as_bytes())
            .with_context(|| format!("could not write {}", path.display()))?;
    }
    let mut stop = Stop::listen()?;
    print_text(&greeting(output, cluster, address, &token, args.token_file.as_deref()))?;

    let passage = Arc::new(Passage::new(Gate::new(token, address), client, cluster));
    tokio::select! {
        () = serve(listener, passage) => {}
        () = stop.asked() => {
            if output == Output::Text {
                eprintln!("Disconnected from {cluster}; it still runs. End it with: gangline rent release {cluster}");
            }
        }
    }
    Ok(())
}

fn greeting(
    output: Output,
    cluster: ClusterId,
    address: SocketAddr,
    token: &Token,
    file: Option<&std::path::Path>,
) -> String {
    if output == Output::Json {
        let token = file.is_none().then(|| token.text());
        return format!(
            "{}\n",
            json!({"event": "listening", "cluster": cluster, "url": format!("http://{address}"), "token": token})
        );
    }
    let shown = match file {
        Some(file) => format!("\"$(cat '{}')\"", file.display().to_string().replace('\'', r"'\''")),
        None => token.text().to_owned(),
    };
    let link = match file {
        Some(_) => format!("http://{address}/?gangline_token= and the token of that file"),
        None => format!("http://{address}/?gangline_token={}", token.text()),
    };
    format!(
        "{cluster} is connected at http://{address}, for this machine only, until Ctrl-C.\n\nWith Ray's own tools:\n\n  export \
         RAY_ADDRESS=http://{address} RAY_AUTH_MODE=token RAY_AUTH_TOKEN={shown}\n  ray job submit --working-dir . -- python \
         job.py\n\nRay's dashboard in a browser:\n\n  {link}\n\nThe token opens this door only, and ends with it.\n"
    )
}

/// Takes connections for ever.
async fn serve(listener: TcpListener, passage: Arc<Passage>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let passage = passage.clone();
                tokio::spawn(async move {
                    connection(stream, passage).await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: a pause lets some come back.
                tracing::warn!(%error, "could not take a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, passage: Arc<Passage>) {
    let service = service_fn(move |request| {
        let passage = passage.clone();
        async move { Ok::<_, std::convert::Infallible>(passage.answer(request).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WAIT)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a local connection broke");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_listened_on() {
        for bad in [
            "0.0.0.0:0",
            "[::]:0",
            "192.168.1.2:80",
            "10.0.0.1:1",
            "example.org:80",
            "127.0.0.1",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert!(loopback(bad).is_err(), "{bad} was taken");
        }
        for good in ["127.0.0.1:0", "127.9.9.9:80", "[::1]:0", "localhost:8265"] {
            assert!(loopback(good).is_ok(), "{good} was refused");
        }
    }
}
