//! A grown network, looked at: lists, searches, GPU pages and consoles over all its machines and their months of
//! uptime, as visitors, suppliers and the operator ask for them.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use gangline_server::simulate::{Grown, Seed};
use gangline_wire::{
    Nothing,
    api::{
        account::StatementQuery,
        enrol::KeyKind,
        public::{GpuPage, SnapshotWithEntries},
    },
    endpoints::AccountStatement,
};
use gangline_worker::client::Client;

use super::{Found, Size, procs::Gangline};
use crate::{
    drill::tenant::enrol,
    fleet::{percentile, seed},
    stage::{browser::Browser, html},
};

/// Days of uptime that the machines have behind them.
const DAYS: u32 = 90;
/// Hours of them that have a snapshot.
const SNAPSHOTS: u32 = 12;
/// GPUs in a page of the list, at most.
const PAGE: usize = 200;

/// Fills a folder with a grown network and serves it.
///
/// # Errors
/// When it cannot be filled, or the server does not start.
pub fn grown(data: &Path, size: Size, found: &mut Found) -> anyhow::Result<(Seed, Gangline)> {
    let who = Seed::of("bench");
    let began = Instant::now();
    let grown = Grown { machines: size.machines, days: DAYS, snapshots: SNAPSHOTS };
    seed::fill_folder(data, &who, grown)?;
    found.figure("filling the books", began.elapsed().as_secs_f64(), "s");
    let gangline = Gangline::serve(data)?;
    found.figure("start-up until it answers", gangline.took.as_secs_f64(), "s");
    Ok((who, gangline))
}

/// Fills a folder, serves it, and looks.
///
/// # Errors
/// When the server does not hold, or a page does not come.
pub fn measure(work: &Path, size: Size, found: &mut Found) -> anyhow::Result<()> {
    let (who, gangline) = grown(&work.join("grown"), size, found)?;
    look(&gangline, &who, size, found)?;
    gangline.server.stop()
}

/// How long pages take, one after the other; each is read to its end.
struct Look<'a> {
    found: &'a mut Found,
    size: Size,
}

impl Look<'_> {
    /// Asks for the pages at these paths and tells how long they took.
    async fn at(
        &mut self,
        what: &str,
        browser: &mut Browser,
        path: impl Fn(u32) -> String,
    ) -> anyhow::Result<()> {
        let mut waits = Vec::new();
        let mut bytes = 0;
        for n in 0..self.size.looks {
            let path = path(n);
            let began = Instant::now();
            let page = browser.get(&path).await?;
            waits.push(began.elapsed());
            ensure!(page.status == 200, "{path} is answered {}", page.status);
            bytes = bytes.max(page.text.len());
        }
        self.tell(what, waits, bytes);
        Ok(())
    }

    fn tell(&mut self, what: &str, mut waits: Vec<Duration>, bytes: usize) {
        let most = percentile(&mut waits, 99).as_secs_f64() * 1000.0;
        self.found.figure(format!("pages: {what}, 99 of 100 within"), most, "ms");
        if bytes > 0 {
            self.found.figure(format!("pages: {what}, its text at most"), bytes as f64 / 1024.0, "KiB");
        }
    }

    /// Takes a whole snapshot, page after page, as whoever checks it does.
    async fn export(&mut self, browser: &mut Browser) -> anyhow::Result<()> {
        let (mut waits, mut after, mut seen, mut bytes) = (Vec::new(), String::new(), 0, 0);
        loop {
            let began = Instant::now();
            let page = browser.get(&format!("/api/v1/public/snapshots/1{after}")).await?;
            waits.push(began.elapsed());
            let list: SnapshotWithEntries =
                serde_json::from_str(&page.text).context("a snapshot that is none")?;
            (seen, bytes) = (seen + list.entries.len(), bytes.max(page.text.len()));
            match list.next {
                Some(next) => after = format!("?after={next}"),
                None => break,
            }
        }
        let all: Duration = waits.iter().sum();
        self.found.figure(format!("pages: all {seen} entries of a snapshot"), all.as_secs_f64(), "s");
        self.tell("a snapshot's entries, page after page", waits, bytes);
        Ok(())
    }

    /// Asks for a statement, signed.
    async fn statement(&mut self, what: &str, client: &Client, query: StatementQuery) -> anyhow::Result<()> {
        let (mut waits, mut lines) = (Vec::new(), 0);
        for _ in 0..self.size.looks.min(20) {
            let began = Instant::now();
            let told = client.call::<AccountStatement>(&[], &query, &Nothing {}).await?;
            waits.push(began.elapsed());
            lines = told.lines.len();
        }
        self.found.figure(format!("pages: {what}, its lines"), lines as f64, "lines");
        self.tell(what, waits, 0);
        Ok(())
    }

    /// Follows the list of GPUs from its beginning.
    async fn follow(&mut self, browser: &mut Browser) -> anyhow::Result<()> {
        let (mut waits, mut after, mut seen, mut bytes) = (Vec::new(), String::new(), 0, 0);
        for _ in 0..self.size.looks {
            let began = Instant::now();
            let page = browser.get(&format!("/api/v1/public/gpus?limit={PAGE}{after}")).await?;
            waits.push(began.elapsed());
            let list: GpuPage = serde_json::from_str(&page.text).context("a list that is none")?;
            (seen, bytes) = (seen + list.gpus.len(), bytes.max(page.text.len()));
            match list.next {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
        ensure!(seen >= PAGE.min(self.size.machines as usize), "the list has {seen} GPUs");
        self.tell("the list, page after page", waits, bytes);
        Ok(())
    }
}

/// Looks at a network that was filled with machines of this seed.
///
/// # Errors
/// When a page does not come.
pub fn look(gangline: &Gangline, who: &Seed, size: Size, found: &mut Found) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let before = gangline.server.cpu_micros();
    let mut look = Look { found, size };
    runtime.block_on(async {
        let mut visitor = Browser::new(&gangline.url)?;
        // Far apart, so that no page of the books serves two looks.
        let gpu = |n: u32| who.identity((n.wrapping_mul(7_919) + 17) % size.machines).gpu;
        look.at("the explorer", &mut visitor, |_| "/".into()).await?;
        look.at("totals", &mut visitor, |_| "/api/v1/public/network".into()).await?;
        look.follow(&mut visitor).await?;
        look.at("a search by model", &mut visitor, |_| "/?q=rtx+4090".into()).await?;
        look.at("a search that finds nothing", &mut visitor, |n| format!("/?q=nothing+{n}")).await?;
        look.at("a search by id", &mut visitor, |n| format!("/?q={}", &gpu(n).to_string()[..10])).await?;
        look.at("GPUs that are suspect", &mut visitor, |_| "/?standing=suspect".into()).await?;
        look.at("a GPU's page", &mut visitor, |n| format!("/gpu/{}", gpu(n))).await?;
        look.at("a GPU's uptime", &mut visitor, |n| format!("/api/v1/public/gpus/{}/uptime", gpu(n))).await?;
        look.at("a GPU's chains", &mut visitor, |n| format!("/api/v1/public/gpus/{}/chains", gpu(n))).await?;
        look.at("snapshots", &mut visitor, |_| "/snapshots".into()).await?;
        look.at("a snapshot's page", &mut visitor, |n| format!("/snapshots/{}", n % SNAPSHOTS)).await?;
        look.export(&mut visitor).await?;

        let link = gangline.operator_link.as_deref().context("the server gave no operator's link")?;
        let mut operator = Browser::new(&gangline.url)?;
        operator.enter(link).await?;
        look.at("the operator's console", &mut operator, |_| "/console".into()).await?;
        look.at("the security page", &mut operator, |_| "/console/security".into()).await?;
        look.at("permitted acts", &mut operator, |_| "/console/security/acts".into()).await?;

        let console = operator.get("/console").await?;
        let invite = html::forms(&console.text)
            .into_iter()
            .find(|form| form.action == "/console/invite")
            .context("the console has no form to invite somebody")?;
        let account = who.account(0).to_string();
        let fields: Vec<(String, String)> = invite
            .fields
            .into_iter()
            .filter(|(name, _)| name == "csrf")
            .chain([("account".to_owned(), account)])
            .collect();
        let answer = operator.post("/console/invite", &fields).await?;
        let link = html::words(&answer.text, &format!("{}/enter/", gangline.url));
        let link = link.first().context("the supplier got no link")?;
        let mut supplier = Browser::new(&gangline.url)?;
        supplier.enter(link).await?;
        look.at("the console of a supplier of a thousand machines", &mut supplier, |_| "/console".into())
            .await?;
        let (client, _) = enrol(&gangline.url, &mut supplier, KeyKind::CommandLine).await?;
        look.statement("the same supplier's statement", &client, StatementQuery::default()).await?;
        let two_days = StatementQuery { from: Some(0), ..StatementQuery::default() };
        look.statement("the same from the first period on", &client, two_days).await
    })?;
    let spent = (gangline.server.cpu_micros() - before) / 1e6;
    look.found.figure("pages: CPU of all that, the network's own work included", spent, "s");
    Ok(())
}
