//! The log of a run: its lines by number, searched, and how far it reaches; as a page without a script, and as what the
//! view in a browser asks for.

use serde_json::{Value, json};

use crate::page::Page;
use crate::world::{Options, World};

/// A run that has stopped after it wrote this.
async fn run_with_log(world: &World, text: &str) -> String {
    let run_id = world.run("echo line 1; sleep 100").await;
    world.step_until(&run_id, |run| run["status"] == "RUNNING").await;
    let attempt = World::attempt(&run_id, 1);
    world.script().print(attempt, text);
    world.script().go_on(attempt);
    world.finish(&run_id).await;
    world.step_until_log_is_complete(&run_id).await;
    run_id
}

impl World {
    pub async fn step_until_log_is_complete(&self, run_id: &str) {
        let address = format!("/ui/runs/{run_id}/log/lines");
        while !self.page(&address).await.html.contains("data-complete=\"true\"") {
            self.step().await;
        }
    }
}

/// The numbers of the lines that are shown, and their texts as markup.
fn lines(page: &Page) -> Vec<(u64, String)> {
    let rows = page.between("<div class=\"line\" id=\"L", "</div>");
    let row = |row: &str| {
        let number = row.split('"').next().unwrap().parse().unwrap();
        let text = row.split("<span class=\"t\">").nth(1).unwrap().strip_suffix("</span>").unwrap();
        (number, text.to_owned())
    };
    rows.into_iter().map(row).collect()
}

fn numbers(page: &Page) -> Vec<u64> {
    lines(page).into_iter().map(|(number, _)| number).collect()
}

async fn search(world: &World, run_id: &str, query: &str) -> Value {
    world.get(&format!("/ui/runs/{run_id}/log/search?{query}")).await.ok()
}

fn thousand_lines() -> String {
    (2..=1000).map(|number| format!("line {number}\n")).collect()
}

#[tokio::test]
async fn lines_are_given_by_number_and_from_the_end() {
    let world = World::on_sqlite(Options::default()).await;
    let run_id = run_with_log(&world, &thousand_lines()).await;
    let ask =
        |query: &'static str| world.page(Box::leak(format!("/ui/runs/{run_id}/log/lines{query}").into_boxed_str()));
    let page = ask("?from=500&count=3").await;
    page.is(200).has("data-lines=\"1000\"").has("data-complete=\"true\"");
    let expected: Vec<_> = (500..503).map(|number| (number, format!("line {number}"))).collect();
    assert_eq!(lines(&page), expected);
    assert_eq!(numbers(&ask("?count=2").await), [999, 1000]);
    assert_eq!(numbers(&ask("").await), (801..=1000).collect::<Vec<u64>>());
    assert_eq!(numbers(&ask("?from=999&count=5000").await), [999, 1000]);
    assert_eq!(numbers(&ask("?from=1&count=5000").await).len(), 1000);
    assert_eq!(numbers(&ask("?from=1001").await), [] as [u64; 0]);
    assert_eq!(numbers(&ask("?from=18446744073709551615").await), [] as [u64; 0]);
    ask("?from=-1").await.is(400).has("`from`");
    ask("?from=x&count=y").await.is(400).has("`from`").has("`count`");
    ask("?lines=3").await.is(400).has("`lines` is no parameter here");
    world.page("/ui/runs/nothing/log/lines").await.is(404);
}

#[tokio::test]
async fn each_line_says_when_it_was_written() {
    let world = World::on_sqlite(Options::default()).await;
    let run_id = world.run("echo one; sleep 100").await;
    let address = format!("/ui/runs/{run_id}/log/lines");
    world.step_until(&run_id, |run| run["status"] == "RUNNING").await;
    while numbers(&world.page(&address).await).is_empty() {
        world.step().await;
    }
    world.advance(jiff::SignedDuration::from_hours(1));
    let attempt = World::attempt(&run_id, 1);
    world.script().print(attempt, "two\nthree\n");
    while numbers(&world.page(&address).await).len() < 3 {
        world.step().await;
    }
    let page = world.page(&address).await;
    let times = page.between("<span class=\"at\" title=\"", "\"");
    assert_eq!(times, ["2026-01-01 00:00:00 UTC", "2026-01-01 01:00:00 UTC", "2026-01-01 01:00:00 UTC"]);
    world.script().go_on(attempt);
    world.finish(&run_id).await;
}

#[tokio::test]
async fn without_a_script_the_page_shows_the_end_and_leads_to_earlier_lines() {
    let world = World::on_sqlite(Options::default()).await;
    let run_id = run_with_log(&world, &thousand_lines()).await;
    let page = world.page(&format!("/ui/runs/{run_id}/log")).await;
    page.is(200).has("1,000 lines").has("download=\"").has(&format!("/api/v1/{run_id}/logs?raw_text=true"));
    assert_eq!(numbers(&page), (801..=1000).collect::<Vec<u64>>());
    page.has("from=601\" rel=\"prev\"").lacks("rel=\"next\"");
    let page = world.page(&format!("/ui/runs/{run_id}/log?from=601")).await;
    assert_eq!(numbers(&page), (601..=800).collect::<Vec<u64>>());
    page.has("from=401\" rel=\"prev\"").has("from=801\" rel=\"next\"");
    let page = world.page(&format!("/ui/runs/{run_id}/log?from=1")).await;
    page.lacks("rel=\"prev\"").has("from=201\" rel=\"next\"");
}

#[tokio::test]
async fn without_a_script_a_search_lists_the_lines_and_leads_to_them() {
    let world = World::on_sqlite(Options::default()).await;
    let run_id = run_with_log(&world, &thousand_lines()).await;
    let page = world.page(&format!("/ui/runs/{run_id}/log?q=LINE+70")).await;
    page.has("value=\"LINE 70\"").has("from=65#L70\">70</a>").has("from=695#L700\">700</a>").lacks("Search on");
    let page = world.page(&format!("/ui/runs/{run_id}/log?q=line")).await;
    page.has("#L50\">50</a>").lacks("#L51\"").has("from=51\">Search on</a>");
    let page = world.page(&format!("/ui/runs/{run_id}/log?q=line&from=51")).await;
    page.has("#L51\">51</a>").lacks("#L50\"");
    world.page(&format!("/ui/runs/{run_id}/log?q=LINE&case=true")).await.has("No line holds");
    world.page(&format!("/ui/runs/{run_id}/log?q=%22%3E%3Cscript%3E")).await.lacks("\"><script>").has("No line holds");
}

#[tokio::test]
async fn without_a_script_a_hit_that_is_not_shown_is_said_to_be_so() {
    let world = World::on_sqlite(Options::default()).await;
    let run_id = run_with_log(&world, &format!("needle\n{}needle\n", "x".repeat(40_000))).await;
    let page = world.page(&format!("/ui/runs/{run_id}/log?q=needle")).await;
    page.has("#L2\">2</a> <a").has("#L3\">3</a> (in a part that is not shown)");
}

#[tokio::test]
async fn a_search_finds_what_is_seen_and_no_codes_of_colours() {
    let world = World::on_sqlite(Options::default()).await;
    let run_id = run_with_log(&world, "red \x1b[1mbold\x1b[0m\n\x1b[38;5;208morange\x1b[0m\n").await;
    assert_eq!(search(&world, &run_id, "q=red+bold").await["lines"], json!([2]));
    assert_eq!(search(&world, &run_id, "q=38%3B5").await["lines"], json!([]));
}

#[tokio::test]
async fn a_search_gives_so_many_lines_and_says_where_to_go_on() {
    let world = World::on_sqlite(Options::default()).await;
    let run_id = run_with_log(&world, &thousand_lines().repeat(2)).await;
    let found = search(&world, &run_id, "q=line+7&line=70").await;
    assert_eq!(found["lines"].as_array().unwrap().len(), 10 + 100 + 111);
    assert_eq!(found["lines"][0], 70);
    assert_eq!(found["next"], Value::Null);
    let found = search(&world, &run_id, "q=LINE").await;
    assert_eq!(found["lines"].as_array().unwrap().len(), 1000);
    let next = found["next"].as_str().unwrap().to_owned();
    let rest = search(&world, &run_id, &format!("q=LINE&next={next}")).await;
    assert_eq!((&rest["lines"][0], &rest["next"]), (&json!(1001), &Value::Null));
    assert_eq!(search(&world, &run_id, "q=LINE&case=true").await["lines"], json!([]));
    for query in ["", "q=", "q=a%0Ab", "q=a&next=x", "q=a&line=x", &format!("q={}", "x".repeat(201))] {
        world.page(&format!("/ui/runs/{run_id}/log/search?{query}")).await.is(400);
    }
}

#[tokio::test]
async fn what_a_run_wrote_is_never_markup() {
    let world = World::on_sqlite(Options::default()).await;
    let evil = "<script>alert(1)</script>\n\x1b]8;;javascript:alert(1)\x07\x1b[31m\"><img src=x onerror=alert(1)>\x1b[0m\n\0\x1b[<b>\n";
    let run_id = run_with_log(&world, evil).await;
    for path in ["log", "log/lines", "log?q=%3Cscript%3E"] {
        let page = world.page(&format!("/ui/runs/{run_id}/{path}")).await;
        page.is(200).lacks("<script>alert").lacks("<img").lacks("<b>").lacks("javascript:").lacks("\x1b").lacks("\0");
        page.has("&lt;script&gt;alert(1)&lt;/script&gt;").has("<span class=\"f1\">&quot;&gt;&lt;img");
    }
}

#[tokio::test]
async fn a_log_that_was_not_written_yet_is_an_empty_page() {
    let world = World::on_sqlite(Options::default()).await;
    let run_id = world.run("echo one").await;
    world.page(&format!("/ui/runs/{run_id}/log")).await.is(200).has("Nothing was written yet.").has("0 lines, 0 bytes");
    assert_eq!(search(&world, &run_id, "q=x").await, json!({"lines": [], "next": null}));
    world.page("/ui/runs/nothing/log").await.is(404);
    world.page("/ui/runs/nothing/log/search?q=x").await.is(404);
}

#[tokio::test]
async fn an_empty_log_says_why_it_is_empty() {
    let world = World::on_sqlite(Options::default()).await;
    let queued = world.run("echo one").await;
    world.form(&format!("/ui/runs/{queued}/stop"), &[]).await.leads_to();
    world.step_until(&queued, |run| run["status"] == "STOPPED").await;
    world.step_until_log_is_complete(&queued).await;
    let page = world.page(&format!("/ui/runs/{queued}/log")).await;
    page.has("It never started, so it wrote nothing.").lacks("its log was removed");
    let silent = world.run("exit 0").await;
    world.step_until(&silent, |run| run["status"] == "STOPPED").await;
    world.step_until_log_is_complete(&silent).await;
    let page = world.page(&format!("/ui/runs/{silent}/log")).await;
    page.has("The run wrote nothing, or its log was removed.").lacks("never started");
}

#[tokio::test]
async fn a_download_is_named_after_the_task_and_the_run() {
    let world = World::on_sqlite(Options::default()).await;
    let task = world.define("nightly/train", "exit 0").await;
    let run = world.launch(&task, json!({})).await;
    let name = format!("download=\"nightly-train-{}.log\"", &run[run.len() - 8..]);
    for page in [format!("/ui/runs/{run}"), format!("/ui/runs/{run}/log")] {
        world.page(&page).await.has(&name);
    }
}
