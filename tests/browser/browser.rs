//! A browser, driven over WebDriver: what a person does with it, and waiting for what that person would wait to see.

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use futures_util::FutureExt;
use serde_json::{Value, json};
use thirtyfour::prelude::*;

use crate::program::Server;
use crate::proxy::{Proxy, Way};
use crate::support;

/// Nothing takes so long unless it is broken.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a condition is looked at.
const PAUSE: Duration = Duration::from_millis(30);

pub struct Browser {
    driver: WebDriver,
    /// Of this session, for what WebDriver itself does not have.
    session: String,
    http: reqwest::Client,
    /// Of the server whose pages are visited.
    url: String,
}

/// How a page is looked at.
#[derive(Debug, Clone, Copy)]
pub struct View {
    pub width: u32,
    pub is_dark: bool,
}

impl Browser {
    /// Lets `visit` use a browser on a new server's pages, where there is one; and ends both whatever comes. What a page
    /// wrote to the console as an error fails the test.
    pub async fn visit(visit: impl AsyncFnOnce(&Self, &mut Server)) {
        let Some(address) = support::browser_address() else { return };
        let mut server = Server::start();
        let browser = Self::open_at(&address, &server.url).await;
        let visited = AssertUnwindSafe(visit(&browser, &mut server)).catch_unwind().await;
        browser.close(visited).await;
    }

    /// Lets `visit` use a browser at an address that leads to a server, through whatever is before it.
    pub async fn visit_at(url: &str, server: &mut Server, visit: impl AsyncFnOnce(&Self, &mut Server)) {
        let Some(address) = support::browser_address() else { return };
        let browser = Self::open_at(&address, url).await;
        let visited = AssertUnwindSafe(visit(&browser, server)).catch_unwind().await;
        browser.close(visited).await;
    }

    /// The same through a proxy.
    pub async fn visit_through_a_proxy(visit: impl AsyncFnOnce(&Self, &mut Server, &Proxy)) {
        let Some(address) = support::browser_address() else { return };
        let mut server = Server::start();
        let proxy = Proxy::start(&server.url).await;
        let browser = Self::open_at(&address, &proxy.url).await;
        let visited = AssertUnwindSafe(visit(&browser, &mut server, &proxy)).catch_unwind().await;
        // What waits for an answer would hold up the end.
        proxy.set(Way::Open);
        browser.close(visited).await;
    }

    async fn close(self, visited: std::thread::Result<()>) {
        let browser = self;
        let mut errors = browser.console_errors().await;
        // Chromium gives up requests when an interface of the machine comes or goes, such as those of containers.
        errors.retain(|error| !error.contains("net::ERR_NETWORK_CHANGED"));
        let picture = if visited.is_err() { browser.driver.source().await.ok() } else { None };
        browser.driver.quit().await.unwrap();
        if let Err(panic) = visited {
            eprintln!("the console's errors: {errors:?}\nthe page as it was:\n{}", picture.unwrap_or_default());
            std::panic::resume_unwind(panic);
        }
        assert!(errors.is_empty(), "the console has errors: {errors:#?}");
    }

    async fn open_at(address: &str, url: &str) -> Self {
        let mut capabilities = DesiredCapabilities::chrome();
        for argument in [
            "--headless=new",
            "--hide-scrollbars",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
        ] {
            capabilities.add_arg(argument).unwrap();
        }
        capabilities.set("goog:loggingPrefs", json!({"browser": "ALL"})).unwrap();
        let driver = WebDriver::new(address, capabilities).await.expect("FLOTILLA_TEST_BROWSER opens a browser");
        let session = format!("{}/session/{}", address.trim_end_matches('/'), driver.session_id());
        Self { driver, session, http: reqwest::Client::new(), url: url.to_owned() }
    }

    pub async fn open(&self, path: &str) {
        self.driver.goto(format!("{}{path}", self.url)).await.unwrap();
    }

    pub async fn path(&self) -> String {
        let address = self.driver.current_url().await.unwrap();
        address.as_str().trim_start_matches(&self.url).to_owned()
    }

    pub async fn click(&self, css: &str) {
        self.until(&format!("document.querySelector({css:?})")).await;
        self.driver.find(By::Css(css)).await.unwrap().click().await.unwrap();
    }

    /// Types into a field, in the place of what is there.
    pub async fn fill(&self, css: &str, text: &str) {
        self.until(&format!("document.querySelector({css:?})")).await;
        let field = self.driver.find(By::Css(css)).await.unwrap();
        field.clear().await.unwrap();
        field.send_keys(text).await.unwrap();
    }

    /// Keys, wherever the focus is.
    pub async fn press(&self, keys: impl Into<TypingData>) {
        self.driver.active_element().await.unwrap().send_keys(keys).await.unwrap();
    }

    /// What an expression is, as JSON.
    pub async fn value(&self, expression: &str) -> Value {
        let script = format!("return ({expression})");
        self.driver.execute(script, vec![]).await.unwrap_or_else(|error| panic!("{expression}: {error}")).json().clone()
    }

    /// What an asynchronous function returns, called in the page.
    pub async fn called(&self, function: &str) -> Value {
        let script = format!(
            "const done = arguments[0]; ({function})().then((value) => done({{ value }}), (error) => done({{ error: String(error) }}))"
        );
        self.driver.execute_async(script, vec![]).await.unwrap().json().clone()
    }

    /// Waits until an expression is true.
    pub async fn until(&self, expression: &str) {
        let begun = Instant::now();
        let expression = format!("!!({expression})");
        while self.value(&expression).await != json!(true) {
            assert!(begun.elapsed() < PATIENCE, "this does not become true on {}: {expression}", self.path().await);
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits until the text of the page holds this.
    pub async fn until_shown(&self, text: &str) {
        self.until(&format!("document.body.innerText.includes({text:?})")).await;
    }

    pub async fn look(&self, View { width, is_dark }: View) {
        let scheme = if is_dark { "dark" } else { "light" };
        self.devtools(
            "Emulation.setEmulatedMedia",
            json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]}),
        )
        .await;
        let size = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", size).await;
    }

    pub async fn window(&self) -> WindowHandle {
        self.driver.window().await.unwrap()
    }

    /// Opens a further window, and goes there.
    pub async fn new_window(&self) -> WindowHandle {
        let window = self.driver.new_window().await.unwrap();
        self.driver.switch_to_window(window.clone()).await.unwrap();
        window
    }

    pub async fn switch_to(&self, window: WindowHandle) {
        self.driver.switch_to_window(window).await.unwrap();
    }

    /// A script that runs in each page that is opened from now on, before any of the page's own.
    pub async fn before_each_page(&self, script: &str) {
        self.devtools("Page.addScriptToEvaluateOnNewDocument", json!({"source": script})).await;
    }

    /// Takes the network away from the page, or gives it back.
    pub async fn offline(&self, is_offline: bool) {
        self.devtools("Network.enable", json!({})).await;
        let conditions = json!({"offline": is_offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1});
        self.devtools("Network.emulateNetworkConditions", conditions).await;
    }

    /// As if there were no such script.
    pub async fn block(&self, script: &str) {
        self.devtools("Network.enable", json!({})).await;
        self.devtools("Network.setBlockedURLs", json!({"urls": [format!("*{script}*")]})).await;
    }

    /// A picture of the whole page.
    pub async fn picture(&self, path: &Path) {
        let taken =
            self.devtools("Page.captureScreenshot", json!({"format": "png", "captureBeyondViewport": true})).await;
        let bytes = BASE64_STANDARD.decode(taken["data"].as_str().expect("a picture comes as a text")).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// What axe finds that is serious or worse: the rule, where, and why.
    pub async fn violations(&self, axe: &str) -> Vec<String> {
        self.driver.execute(axe, vec![]).await.unwrap();
        let run = "const done = arguments[0]; axe.run(document, {resultTypes: ['violations']}).then((found) => done(found.violations
            .filter(({impact}) => impact === 'serious' || impact === 'critical')
            .flatMap(({id, nodes}) => nodes.map((node) => `${id}: ${node.html} ${node.failureSummary}`))), (error) => done([String(error)]))";
        let found = self.driver.execute_async(run, vec![]).await.unwrap();
        serde_json::from_value(found.json().clone()).unwrap()
    }

    async fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.extended("goog/cdp/execute", json!({"cmd": command, "params": parameters})).await
    }

    /// For a test that makes errors on purpose.
    pub async fn forget_console(&self) {
        self.console_errors().await;
    }

    async fn console_errors(&self) -> Vec<String> {
        let entries = self.extended("se/log", json!({"type": "browser"})).await;
        let entries = entries.as_array().expect("the console's entries are a list").iter();
        entries.filter(|entry| entry["level"] == "SEVERE").map(|entry| entry["message"].to_string()).collect()
    }

    async fn extended(&self, path: &str, body: Value) -> Value {
        let request = self.http.post(format!("{}/{path}", self.session)).body(body.to_string());
        let answer = request.header("content-type", "application/json").send().await.unwrap();
        let text = answer.text().await.unwrap();
        let mut answer: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}"));
        assert!(answer["value"]["error"].is_null(), "{path}: {text}");
        answer["value"].take()
    }
}
