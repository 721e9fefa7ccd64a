//! The drill's own corner of a network: an operator in a browser, a victim with a machine, attackers with
//! machines. All of it is called drill, and all of it is taken out again at the end.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use gangline_types::{
    AdapterKind, Backend, FreezeId, GpuClaim, GpuId, Hash, IncidentId, Label, Seconds, Text,
};
use gangline_wire::{
    Endpoint, Nothing, SigningKey,
    api::{
        enrol::{EnrolmentPoll, EnrolmentRequest, EnrolmentState, KeyKind},
        machine::{BeatReceipt, BeatReport, HostFacts, Inventory, MinuteBeat},
        operate::{FreezeRequest, FreezeView, IncidentChange, IncidentView, IncidentsQuery},
        public::GpusQuery,
    },
    endpoints as e,
};
use gangline_worker::client::{Client, ClientError, now};

use crate::stage::{browser::Browser, fresh_key};

/// GPUs of the victim's machine.
pub const VICTIM_GPUS: usize = 12;
/// How long something may take to show before it counts as missing.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A machine of the drill.
pub struct Machine {
    /// Signs with its key.
    pub client: Client,
    /// Its key.
    pub key: SigningKey,
    /// Its GPUs.
    pub gpus: Vec<GpuId>,
}

/// All of it.
pub struct Tenant {
    /// The network.
    pub origin: String,
    /// The operator in a browser.
    pub operator: Browser,
    /// The operator at a command line.
    pub command: Client,
    /// The victim in a browser, and its machine.
    pub owner: Browser,
    /// See there.
    pub victim: Machine,
    /// An attacker in a browser, with an account of its own.
    pub mallory: Browser,
    /// The attacker's machine.
    pub thief: Machine,
    /// Machines of a second attacker, who reaches for many.
    pub crowd: Vec<Machine>,
    /// A browser of the second attacker.
    pub crowd_owner: Browser,
    /// Incidents and freezes that were there before.
    known: Vec<IncidentId>,
    command_key: SigningKey,
}

/// Enrols a fresh key that `who` approves.
pub async fn enrol(origin: &str, who: &mut Browser, kind: KeyKind) -> anyhow::Result<(Client, SigningKey)> {
    let key = fresh_key()?;
    let client = Client::new(origin, Some(key.clone()))?;
    let public_key = key.public();
    let request =
        EnrolmentRequest { public_key, kind, host: Label::lossy("drill"), summary: Text::lossy("a drill") };
    let ticket = client.call::<e::Enrol>(&[], &Nothing {}, &request).await?;
    who.approve(&ticket.verification_url_complete, &ticket.user_code, &public_key.fingerprint()).await?;
    let poll = EnrolmentPoll { enrolment: ticket.enrolment, public_key };
    let state = client.call::<e::EnrolPoll>(&[], &Nothing {}, &poll).await?;
    ensure!(state == EnrolmentState::Approved, "a key of the drill was approved and is {state:?}");
    Ok((client, key))
}

/// What a machine of the drill says of itself: processor programs in place of GPUs, which nobody hires unasked.
pub fn inventory(gpus: usize) -> Inventory {
    let claim = |slot: usize| GpuClaim {
        slot: Hash([slot as u8; 32]),
        model: Text::lossy("drill"),
        kind: AdapterKind::Software,
        backend: Backend::Vulkan,
        driver: Text::lossy("drill"),
        pci_vendor: 0,
        pci_device: 0,
        memory_bytes: 1 << 30,
    };
    Inventory {
        host: HostFacts {
            name: Label::lossy("drill"),
            os: Text::lossy("drill"),
            kernel: Text::lossy(""),
            cpu: Text::lossy(""),
            cores: 1,
            memory_bytes: 1 << 30,
            disks: vec![],
            nvidia_driver: None,
        },
        gpus: (1..=gpus).map(claim).collect(),
        worker_version: Text::lossy("drill"),
        isolation: vec![],
    }
}

async fn machine(origin: &str, owner: &mut Browser, gpus: usize) -> anyhow::Result<Machine> {
    let (client, key) = enrol(origin, owner, KeyKind::Machine).await?;
    let registered = client.call::<e::DescribeInventory>(&[], &Nothing {}, &inventory(gpus)).await?;
    Ok(Machine { client, key, gpus: registered.gpus.iter().map(|gpu| gpu.gpu).collect() })
}

impl Machine {
    /// One beat for all its GPUs.
    ///
    /// # Errors
    /// When it is not taken.
    pub async fn beat(&self) -> anyhow::Result<BeatReceipt> {
        let beats = vec![MinuteBeat { minute: now().seconds().minute(), gpus: self.gpus.clone() }];
        let report = BeatReport { beats, worker_version: Text::lossy("drill") };
        Ok(self.client.call::<e::Beats>(&[], &Nothing {}, &report).await?)
    }

    /// Names a GPU: status and code of the answer; 200 and nothing if it was done.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn name(&self, gpu: GpuId, label: &str) -> anyhow::Result<(u16, String)> {
        let write = gangline_wire::api::machine::LabelWrite { label: Label::lossy(label) };
        let since = Instant::now();
        loop {
            match self.client.call::<e::GpuLabel>(&[&gpu], &Nothing {}, &write).await {
                Ok(_) => return Ok((200, String::new())),
                // The surge used its key's name up for a while.
                Err(ClientError::Refused { status: 429, .. }) if since.elapsed() < PATIENCE => {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                Err(ClientError::Refused { status, body }) => return Ok((status, body.code)),
                Err(why) => return Err(why.into()),
            }
        }
    }
}

impl Tenant {
    /// Makes it, as the operator whose one-time link this is.
    ///
    /// # Errors
    /// When the link does not work, or the network does not let an operator do what operators do.
    pub async fn make(origin: &str, link: &str) -> anyhow::Result<Self> {
        let mut operator = Browser::new(origin)?;
        operator.enter(link).await.context("the operator's link signed nobody in")?;
        operator.second_factor("drill").await.context("the operator's second factor")?;
        let (command, command_key) = enrol(origin, &mut operator, KeyKind::CommandLine)
            .await
            .context("the operator's command line could not be enrolled")?;
        let known = command
            .call::<e::Incidents>(&[], &IncidentsQuery::default(), &Nothing {})
            .await?
            .into_iter()
            .map(|incident| incident.incident)
            .collect();
        let mut person = async |name: &str| {
            let link = operator.invite("supplier", name).await?;
            let mut browser = Browser::new(origin)?;
            browser.enter(&link).await?;
            browser.second_factor("drill").await?;
            anyhow::Ok(browser)
        };
        let mut owner = person("drill victim").await?;
        let mut mallory = person("drill attacker").await?;
        let mut crowd_owner = person("drill crowd").await?;
        let victim = machine(origin, &mut owner, VICTIM_GPUS).await?;
        let thief = machine(origin, &mut mallory, 1).await?;
        let mut crowd = Vec::new();
        for _ in 0..2 {
            crowd.push(machine(origin, &mut crowd_owner, 1).await?);
        }
        Ok(Self {
            origin: origin.to_owned(),
            operator,
            command,
            owner,
            victim,
            mallory,
            thief,
            crowd,
            crowd_owner,
            known,
            command_key,
        })
    }

    /// Incidents that are not closed and were not there before.
    ///
    /// # Errors
    /// When the operator is not answered.
    pub async fn incidents(&self) -> anyhow::Result<Vec<IncidentView>> {
        let all = self.command.call::<e::Incidents>(&[], &IncidentsQuery::default(), &Nothing {}).await?;
        Ok(all.into_iter().filter(|incident| !self.known.contains(&incident.incident)).collect())
    }

    /// Waits for an incident that `fits`: it, and the seconds since `since`. None if it does not come.
    ///
    /// # Errors
    /// When the operator is not answered.
    pub async fn noticed(
        &self,
        since: Instant,
        fits: impl Fn(&IncidentView) -> bool,
    ) -> anyhow::Result<Option<(IncidentView, f64)>> {
        loop {
            let found = self.incidents().await?.into_iter().find(&fits);
            if let Some(incident) = found {
                return Ok(Some((incident, since.elapsed().as_secs_f64())));
            }
            if since.elapsed() > PATIENCE {
                return Ok(None);
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// Freezes in force, of these targets.
    ///
    /// # Errors
    /// When the operator is not answered.
    pub async fn freezes(&self, targets: &[String]) -> anyhow::Result<Vec<FreezeView>> {
        let all = self.command.call::<e::FreezeList>(&[], &Nothing {}, &Nothing {}).await?;
        Ok(all
            .into_iter()
            .filter(|freeze| freeze.lifted_at.is_none() && targets.contains(&freeze.target))
            .collect())
    }

    /// Sends a request of the operator's command line; where it takes an approval, the operator gives it in a
    /// browser.
    ///
    /// # Errors
    /// When it is not done, or takes the approval of somebody else.
    pub async fn confirmed<E: Endpoint>(
        &mut self,
        parameters: &[&(dyn std::fmt::Display + Sync)],
        request: &E::Request,
    ) -> anyhow::Result<E::Response>
    where
        E::Query: Default,
    {
        let since = Instant::now();
        loop {
            let error = match self.command.call::<E>(parameters, &E::Query::default(), request).await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let ClientError::Refused { body, .. } = &error else { return Err(error.into()) };
            match (&body.approval, body.code.as_str()) {
                (Some(asked), "approval_needed") => {
                    let page = self.operator.get("/console/approvals").await?;
                    let form = page.form(&format!("/console/approvals/{}", asked.approval))?;
                    self.operator.press(&form, &[("decision", "approve")]).await?;
                }
                (Some(_), "approval_waits") if since.elapsed() < PATIENCE => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                _ => return Err(error.into()),
            }
        }
    }

    /// Freezes by hand, for ten minutes at most.
    ///
    /// # Errors
    /// When it is not done.
    pub async fn freeze(&mut self, target: &str) -> anyhow::Result<FreezeId> {
        let request = FreezeRequest {
            target: Text::lossy(target),
            reason: Text::lossy("a drill"),
            seconds: Some(Seconds(600)),
            dry_run: false,
        };
        let made = self.confirmed::<e::FreezeMake>(&[], &request).await?;
        made.freeze.context("nothing was frozen")
    }

    /// Lifts a freeze.
    ///
    /// # Errors
    /// When it is not done.
    pub async fn lift(&mut self, freeze: FreezeId) -> anyhow::Result<()> {
        self.confirmed::<e::FreezeLift>(&[&freeze], &Nothing {}).await?;
        Ok(())
    }

    /// Keys and accounts of the drill, as freezes name them.
    ///
    /// # Errors
    /// When the operator is not answered.
    async fn targets(&self) -> anyhow::Result<Vec<String>> {
        let mut targets: Vec<String> =
            self.machines().map(|machine| machine.key.public().id().to_string()).collect();
        let accounts = self.incidents().await?.into_iter().filter_map(|incident| incident.account);
        targets.extend(accounts.map(|account| account.to_string()));
        Ok(targets)
    }

    fn machines(&self) -> impl Iterator<Item = &Machine> {
        [&self.victim, &self.thief].into_iter().chain(&self.crowd)
    }

    /// Lifts whatever is frozen of the drill.
    ///
    /// # Errors
    /// When the operator is not answered.
    pub async fn lift_all(&mut self) -> anyhow::Result<usize> {
        let freezes = self.freezes(&self.targets().await?).await?;
        for freeze in &freezes {
            self.lift(freeze.freeze).await?;
        }
        Ok(freezes.len())
    }

    /// What the victim's GPUs are called, as anyone sees it.
    ///
    /// # Errors
    /// When the network does not answer.
    pub async fn shown(&self) -> anyhow::Result<Vec<(GpuId, String)>> {
        let anyone = Client::new(&self.origin, None)?;
        let mut shown = Vec::new();
        for gpu in &self.victim.gpus {
            let public = anyone.call::<e::PublicGpuById>(&[gpu], &Nothing {}, &Nothing {}).await;
            // A GPU that is not projected yet has no name yet.
            shown.push((*gpu, public.map(|gpu| gpu.label.to_string()).unwrap_or_default()));
        }
        Ok(shown)
    }

    /// Waits until they are called so: how many are not, at the end.
    ///
    /// # Errors
    /// When the network does not answer.
    pub async fn until_shown(&self, wanted: &[(GpuId, String)]) -> anyhow::Result<usize> {
        let since = Instant::now();
        loop {
            let shown = self.shown().await?;
            let wrong = wanted.iter().filter(|name| !shown.contains(name)).count();
            if wrong == 0 || since.elapsed() > PATIENCE {
                return Ok(wrong);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// How many GPUs the explorer lists that are called like this.
    ///
    /// # Errors
    /// When the network does not answer.
    pub async fn listed(&self, query: &str) -> anyhow::Result<usize> {
        let anyone = Client::new(&self.origin, None)?;
        let query = GpusQuery { q: Some(query.to_owned()), limit: Some(200), ..GpusQuery::default() };
        Ok(anyone.call::<e::PublicGpus>(&[], &query, &Nothing {}).await?.gpus.len())
    }

    /// Takes everything of the drill back.
    ///
    /// # Errors
    /// When something of it stays.
    pub async fn clean(&mut self) -> anyhow::Result<()> {
        self.lift_all().await?;
        // Alarms that were on their way when the last freeze was lifted.
        for incident in self.incidents().await? {
            let change = IncidentChange { state: Text::lossy("closed"), note: Text::lossy("a drill") };
            self.command.call::<e::IncidentById>(&[&incident.incident], &Nothing {}, &change).await?;
        }
        let mut left = Vec::new();
        for machine in self.machines() {
            if let Err(why) = machine.client.call::<e::MachineLeave>(&[], &Nothing {}, &Nothing {}).await {
                left.push(format!("a machine is still there: {why}"));
            }
        }
        let own = format!("/console/keys/{}/revoke", self.command_key.public().id());
        let console = self.operator.get("/console").await?;
        match console.form(&own) {
            Ok(form) => {
                self.operator.press(&form, &[]).await?;
            }
            Err(why) => left.push(format!("the operator's key is still valid: {why}")),
        }
        // An account of somebody who had no other way in keeps it: its key ends with this program.
        self.operator.forget_passkeys("drill").await?;
        for browser in [&mut self.owner, &mut self.mallory, &mut self.crowd_owner, &mut self.operator] {
            let console = browser.get("/console").await?;
            if let Ok(form) = console.form("/leave") {
                browser.press(&form, &[]).await?;
            }
        }
        if left.is_empty() { Ok(()) } else { bail!("{}", left.join("; ")) }
    }
}
