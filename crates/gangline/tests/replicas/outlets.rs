//! People outside are told of each incident once, whichever server it opened at, also when the one that tells is killed
//! in the midst of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use gangline_types::Label;
use gangline_wire::{Nothing, api::machine::LabelWrite, endpoints::GpuLabel};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use crate::{
    live::{LIMIT, network::Machine},
    postgres,
    three::holder,
    world::World,
};

/// What came in: the id of each message, and what it said.
#[derive(Clone, Default)]
struct Came {
    all: Arc<Mutex<Vec<(String, String)>>>,
    /// The next one gets no answer.
    hangs: Arc<AtomicBool>,
}

impl Came {
    /// The incidents of foreign touches that were told of as opened, and by which messages.
    fn told(&self) -> BTreeMap<String, Vec<String>> {
        let mut told = BTreeMap::<String, Vec<String>>::new();
        for (id, text) in self.all.lock().unwrap().iter() {
            for incident in opened(text) {
                told.entry(incident).or_default().push(id.clone());
            }
        }
        told
    }

    async fn until(&self, how_many: usize) {
        let limit = Instant::now() + LIMIT;
        while self.told().len() < how_many {
            assert!(Instant::now() < limit, "{how_many} should be told of: {:?}", self.all.lock().unwrap());
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// Each incident by one message, which came once; but for one, which may have come twice.
    fn once(&self, but_for: &str) {
        for (incident, ids) in self.told() {
            let distinct: BTreeSet<_> = ids.iter().collect();
            assert_eq!(distinct.len(), 1, "{incident} was told of by several messages: {ids:?}");
            assert!(ids.len() == 1 || *ids[0] == *but_for, "{incident} was told of again: {ids:?}");
        }
    }
}

/// Incidents of foreign touches that a message tells of as opened: by JSON, or by a mail's lines.
fn opened(text: &str) -> Vec<String> {
    if let Ok(body) = serde_json::from_str::<Value>(text) {
        let all = body["data"]["incidents"].as_array().unwrap().iter();
        let ours = all.filter(|i| i["event"] == "incident.opened" && i["what"] == "foreign_touch");
        return ours.map(|i| i["incident"].as_str().unwrap().to_owned()).collect();
    }
    let text = text.replace("=\r\n", "");
    if !text.contains("foreign touch") {
        return Vec::new();
    }
    let is_of_id = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !is_of_id(c)).filter(|word| word.starts_with("inc_"));
    words.map(str::to_owned).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Takes webhooks' requests; where it listens.
async fn webhooks(came: Came) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(webhook(stream, came.clone()));
        }
    });
    url
}

async fn webhook(stream: TcpStream, came: Came) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut id, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.ok()? == 0 {
                return None;
            }
            match line.trim_end().split_once(": ") {
                Some(("webhook-id", value)) => id = value.to_owned(),
                Some(("content-length", value)) => length = value.parse().unwrap(),
                _ if line == "\r\n" => break,
                _ => {}
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.ok()?;
        let hangs = came.hangs.swap(false, Ordering::SeqCst);
        came.all.lock().unwrap().push((id, String::from_utf8(body).unwrap()));
        if hangs {
            std::future::pending::<()>().await;
        }
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.ok()?;
    }
}

/// Takes mails, as much of a mail server as that needs; at which port.
async fn mails(came: Came) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(mail(stream, came.clone()));
        }
    });
    port
}

async fn mail(stream: TcpStream, came: Came) -> Option<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 mail.example\r\n").await.ok()?;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        if line.starts_with("DATA") {
            stream.write_all(b"354 go on\r\n").await.ok()?;
            let mut text = String::new();
            while !text.ends_with("\r\n.\r\n") {
                stream.read_line(&mut text).await.ok()?;
            }
            let id = text.lines().find_map(|line| line.strip_prefix("Message-ID: ")).unwrap().to_owned();
            came.all.lock().unwrap().push((id, text));
        }
        stream.write_all(b"250 as you say\r\n").await.ok()?;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_incident_is_told_once_also_when_the_server_that_tells_is_killed() {
    let (hooked, mailed) = (Came::default(), Came::default());
    let (url, port) = (webhooks(hooked.clone()).await, mails(mailed.clone()).await);
    let smtp = format!("smtp://127.0.0.1:{port}");
    let outlets = [
        &["--webhook", &url, "--outbound-allow", "127.0.0.0/8", "--smtp", &smtp, "--smtp-plain"] as &[&str],
        &["--mail-from", "g@ops.example", "--mail-to", "oncall@ops.example"],
    ];
    let postgres = postgres::Server::new(&[]);
    let mut world = World::start_with(postgres.url(&postgres.database().await), 3, &outlets.concat()).await;
    let mut database = world.database().await;
    let mut machines = Vec::new();
    for _ in 0..7 {
        machines.push(Machine::join(world.at(0), &world.operator).await);
    }
    // Each by another key, at any server.
    let touch = async |world: &World, thief: usize, at: usize| {
        let (client, target) = (world.client(at, &machines[thief].key), machines[(thief + 1) % 7].gpu);
        let write = LabelWrite { label: Label::lossy("mine now") };
        client.call::<GpuLabel>(&[&target], &Nothing {}, &write).await.unwrap_err();
    };
    for n in 0..3 {
        touch(&world, n, n).await;
    }
    hooked.until(3).await;
    mailed.until(3).await;

    // One is under way when its server is killed.
    let victim = world.place_of(&holder(&mut database, "teller").await).unwrap();
    hooked.hangs.store(true, Ordering::SeqCst);
    let others = [(victim + 1) % 3, (victim + 2) % 3];
    touch(&world, 3, others[0]).await;
    hooked.until(4).await;
    world.servers[victim].take().unwrap().process.crash();
    let hung = hooked.all.lock().unwrap().last().unwrap().clone();
    for n in 4..7 {
        touch(&world, n, others[n % 2]).await;
    }
    hooked.until(7).await;
    mailed.until(7).await;
    // What was under way comes again as it was, once its time is over.
    let again = |came: &Came| came.all.lock().unwrap().iter().filter(|one| **one == hung).count();
    let limit = Instant::now() + LIMIT;
    while again(&hooked) < 2 {
        assert!(Instant::now() < limit, "it was never tried again: {:?}", hooked.all.lock().unwrap());
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    // Until everything is noted as sent, so that nothing comes after this.
    loop {
        let open = "SELECT count(*) FROM gangline.delivery WHERE state NOT IN ('sent', 'dead')";
        let open: i64 = sqlx::query_scalar(open).fetch_one(&mut database).await.unwrap();
        if open == 0 {
            break;
        }
        assert!(Instant::now() < limit, "{open} messages are never sent");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    hooked.once(&hung.0);
    let killed_in_between = mailed.told().into_values().find(|ids| ids.len() > 1);
    mailed.once(&killed_in_between.map_or_else(String::new, |ids| ids[0].clone()));
    assert_eq!((hooked.told().len(), mailed.told().len()), (7, 7));
    for server in world.servers.drain(..).flatten() {
        server.stop();
    }
}
