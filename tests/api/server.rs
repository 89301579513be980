//! The server itself: health, and where a browser lands.

use crate::on_every_engine;

on_every_engine! {
    async fn the_server_lives_and_is_ready(world: World) {
        for path in ["/api/v6/health", "/v6/health", "/health/live", "/health/ready", "/api/health/ready"] {
            assert_eq!(world.get(path).await.ok()["status"], "healthy", "{path}");
        }
        world.stop.cancel();
        let answer = world.get("/health/ready").await;
        assert_eq!((answer.status.as_u16(), answer.json()["message"].as_str()), (503, Some("the server is stopping")));
        world.get("/api/v6/health").await.ok();
    }

    async fn a_browser_is_led_to_the_pages(world: World) {
        let mut target = "/".to_owned();
        let mut answer = world.get(&target).await;
        while answer.status.is_redirection() {
            target = answer.headers["location"].to_str().unwrap().to_owned();
            answer = world.get(&target).await;
        }
        assert_eq!(answer.status.as_u16(), 200, "{target}");
        assert!(target.starts_with("/ui"), "{target}");
    }
}
