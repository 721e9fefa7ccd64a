//! A real Chromium, driven through a WebDriver of its own. Whatever it needs and cannot find fails the test
//! with a sentence that says what to install; nothing is ever skipped.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use fantoccini::{
    Client, ClientBuilder, Locator,
    elements::Element,
    error::CmdError,
    wd::{TimeoutConfiguration, WebDriverCompatibleCommand},
};
use hyper_util::client::legacy::connect::HttpConnector;
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde_json::{Map, Value, json};

/// Where the accessibility rules are, as `cargo xtask test --only browser` says it to the tests.
pub const AXE_VARIABLE: &str = "GANGLINE_AXE_JS";

/// How long anything that the page or the network does may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Finds a program in the folders of `path`.
pub fn program(name: &str, path: &OsStr) -> Result<PathBuf, String> {
    std::env::split_paths(path).map(|folder| folder.join(name)).find(|file| file.is_file()).ok_or_else(|| {
        format!(
            "{name} is not on the PATH, and these tests need a real browser: `cargo xtask test --only browser` \
             installs it (Debian's packages chromium and chromium-driver)"
        )
    })
}

/// Reads the accessibility rules from the file that a variable names.
pub fn rules(file: Option<&OsStr>) -> Result<String, String> {
    let file = file.ok_or_else(|| {
        format!(
            "{AXE_VARIABLE} does not name a copy of axe.min.js: `cargo xtask test --only browser` gets it"
        )
    })?;
    std::fs::read_to_string(file)
        .map_err(|e| format!("{AXE_VARIABLE} names {}, which cannot be read: {e}", file.display()))
}

/// One chromedriver with its browsers. All of them end with it, also when a test fails.
pub struct Driver {
    process: Child,
    url: String,
    chromium: PathBuf,
    profiles: tempfile::TempDir,
    opened: AtomicU32,
}

impl Driver {
    pub fn start() -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let find = |name| program(name, &path).unwrap_or_else(|problem| panic!("{problem}"));
        let chromium = find("chromium");
        // Port 0: the system chooses one that is free, and chromedriver says which.
        let mut process = Command::new(find("chromedriver"))
            .args(["--port=0", "--log-level=SEVERE"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start chromedriver: {e}"));
        let mut said = Vec::new();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let port = lines.map_while(Result::ok).find_map(|line| {
            let port = line
                .split("successfully on port ")
                .nth(1)
                .and_then(|rest| rest.trim_end_matches('.').parse::<u16>().ok());
            said.push(line);
            port
        });
        let Some(port) = port else {
            let _ = process.kill();
            panic!("chromedriver did not start: {}", said.join("\n"));
        };
        Self {
            process,
            url: format!("http://127.0.0.1:{port}"),
            chromium,
            profiles: tempfile::tempdir().unwrap(),
            opened: AtomicU32::new(0),
        }
    }

    /// A browser of its own, with nothing remembered.
    pub async fn open(&self) -> Session {
        self.open_with(json!({}), false).await
    }

    /// The same for somebody who runs no scripts.
    pub async fn open_without_scripts(&self) -> Session {
        self.open_with(json!({"profile.managed_default_content_settings.javascript": 2}), false).await
    }

    /// The same for somebody who takes every certificate: those of tests are of no authority that a browser knows.
    pub async fn open_believing_anybody(&self) -> Session {
        self.open_with(json!({}), true).await
    }

    async fn open_with(&self, preferences: Value, believing: bool) -> Session {
        let profile = self.profiles.path().join(self.opened.fetch_add(1, Ordering::Relaxed).to_string());
        let mut wished = Map::new();
        wished.insert("acceptInsecureCerts".into(), json!(believing));
        wished.insert("goog:loggingPrefs".into(), json!({"browser": "ALL"}));
        wished.insert(
            "goog:chromeOptions".into(),
            json!({
                "binary": self.chromium,
                "prefs": preferences,
                "args": [
                    "--headless",
                    "--no-sandbox",
                    "--disable-gpu",
                    "--disable-quic",
                    "--no-first-run",
                    "--disable-background-networking",
                    "--disable-component-update",
                    "--disable-sync",
                    "--hide-scrollbars",
                    // A page that still fades in from the one before is measured wrongly.
                    "--force-prefers-reduced-motion",
                    "--disable-dev-shm-usage",
                    "--window-size=1440,1000",
                    format!("--user-data-dir={}", profile.display()),
                ],
            }),
        );
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(wished);
        let client = builder
            .connect(&self.url)
            .await
            .unwrap_or_else(|e| panic!("chromedriver could not open {}: {e}", self.chromium.display()));
        let limits = TimeoutConfiguration::new(Some(PATIENCE), Some(PATIENCE), Some(Duration::ZERO));
        client.update_timeouts(limits).await.unwrap();
        let session = Session { client };
        session.desk().await;
        session
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Its browsers end with their driver.
        let _ = killpg(Pid::from_raw(self.process.id() as i32), Signal::SIGKILL);
        let _ = self.process.wait();
    }
}

/// One browser with one tab.
pub struct Session {
    pub client: Client,
}

/// A command of chromedriver beyond the WebDriver standard.
#[derive(Debug)]
struct Beyond {
    path: String,
    method: http::Method,
    body: Value,
}

impl WebDriverCompatibleCommand for Beyond {
    fn endpoint(&self, base: &url::Url, session: Option<&str>) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }
    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        let body = (self.method != http::Method::GET).then(|| self.body.to_string());
        (self.method.clone(), body)
    }
}

impl Session {
    pub async fn close(self) {
        self.client.close().await.unwrap();
    }

    /// A command of Chromium's own protocol.
    pub async fn command(&self, name: &str, parameters: Value) -> Value {
        let body = json!({"cmd": name, "params": parameters});
        self.client
            .issue_cmd(Beyond { path: "goog/cdp/execute".into(), method: http::Method::POST, body })
            .await
            .unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// A command of an extension of the WebDriver standard, such as virtual authenticators.
    pub async fn webdriver(&self, method: http::Method, path: &str, body: Value) -> Value {
        let command = Beyond { path: path.to_owned(), method, body };
        self.client.issue_cmd(command).await.unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    /// What the console has said since it was last asked, CSP violations among it.
    pub async fn console(&self) -> Vec<String> {
        let body = json!({"type": "browser"});
        let said = self.client.issue_cmd(Beyond { path: "se/log".into(), method: http::Method::POST, body });
        let said = said.await.unwrap();
        let entry = |e: &Value| format!("{} {} {}", e["level"], e["source"], e["message"]);
        said.as_array().unwrap().iter().map(entry).collect()
    }

    async fn screen(&self, width: u32, height: u32, phone: bool) {
        let screen = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone,
            "screenOrientation": {"type": "portraitPrimary", "angle": 0},
        });
        self.command("Emulation.setDeviceMetricsOverride", screen).await;
    }
    /// A desk's screen.
    pub async fn desk(&self) {
        self.screen(1440, 1000, false).await;
    }
    /// A phone's screen, 390 pixels wide.
    pub async fn phone(&self) {
        self.screen(390, 844, true).await;
    }

    pub async fn goto(&self, url: &str) {
        self.client.goto(url).await.unwrap_or_else(|e| panic!("{url}: {e}"));
    }

    pub async fn script(&self, script: &str) -> Value {
        self.client.execute(script, vec![]).await.unwrap_or_else(|e| panic!("{script}: {e}"))
    }

    /// Whether a condition in the page holds.
    pub async fn holds(&self, condition: &str) -> bool {
        self.script(&format!("return Boolean({condition});")).await == json!(true)
    }

    /// Waits for a condition in the page.
    pub async fn until(&self, condition: &str) {
        let deadline = std::time::Instant::now() + PATIENCE;
        while !self.holds(condition).await {
            assert!(std::time::Instant::now() < deadline, "it never came to hold: {condition}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits for an element.
    pub async fn find(&self, css: &str) -> Element {
        self.waited(Locator::Css(css)).await.unwrap_or_else(|e| panic!("no {css}: {e}"))
    }

    async fn waited(&self, what: Locator<'_>) -> Result<Element, CmdError> {
        self.client.wait().at_most(PATIENCE).for_element(what).await
    }

    pub async fn count(&self, css: &str) -> usize {
        self.client.find_all(Locator::Css(css)).await.unwrap().len()
    }

    pub async fn text(&self, css: &str) -> String {
        self.find(css).await.text().await.unwrap()
    }

    /// Presses the button or link with these words.
    pub async fn press(&self, words: &str) {
        let path = format!("//*[self::button or self::a][normalize-space()='{words}']");
        let found = self.waited(Locator::XPath(&path)).await;
        found.unwrap_or_else(|e| panic!("no button or link {words:?}: {e}")).click().await.unwrap();
    }

    /// Types into a field.
    pub async fn fill(&self, css: &str, words: &str) {
        self.find(css).await.send_keys(words).await.unwrap();
    }

    /// Waits until a page with this first heading is there.
    pub async fn heading(&self, words: &str) {
        let path = format!("//h1[contains(normalize-space(), \"{words}\")]");
        if self.waited(Locator::XPath(&path)).await.is_err() {
            panic!("no page headed {words:?} at {}", self.client.current_url().await.unwrap());
        }
    }

    /// Draws this site's next pages in these colours.
    pub async fn theme(&self, theme: &str) {
        let url = self.client.current_url().await.unwrap();
        let cookie = json!({"name": "gangline-theme", "value": theme, "url": url.as_str(), "path": "/"});
        let set = self.command("Network.setCookie", cookie).await;
        assert_eq!(set["success"], true, "{url}: {set}");
    }
}
