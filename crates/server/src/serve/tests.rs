//! Over real sockets: https, plain HTTP by mistake, a certificate that changes, and the end.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::tls::Tls;
use super::{CertificateState, Places, serve, serve_machines, take};
use crate::test_support::TestServer;

fn write_certificate(folder: &Path) -> String {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let pem = made.cert.pem();
    fs::write(folder.join("cert.pem"), &pem).unwrap();
    fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    pem
}

async fn ask(address: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    answer
}

const READY: &str = "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn https_is_served_and_plain_http_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let pem = write_certificate(folder.path());
    let server = TestServer::with(|settings| {
        settings.tls = Some((
            folder.path().join("cert.pem"),
            folder.path().join("key.pem"),
        ));
    })
    .await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let (running, token) = (server.server.clone(), stop.clone());
    let task = tokio::spawn(async move { serve(&running, listener, token).await });

    let plain = ask(address, READY).await;
    assert!(plain.starts_with("HTTP/1.1 400 "), "{plain}");
    let (head, body) = plain.split_once("\r\n\r\n").unwrap();
    assert!(
        head.contains(&format!("Content-Length: {}", body.len())),
        "{head}"
    );

    let client = reqwest::Client::builder()
        .tls_certs_only([reqwest::Certificate::from_pem(pem.as_bytes()).unwrap()])
        .resolve("localhost", address)
        .build()
        .unwrap();
    let url = format!("https://localhost:{}/readyz", address.port());
    let answer = client.get(url).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.headers().contains_key("x-request-id"));
    drop(client);
    let figures = server.server.app().operations.metrics.text();
    let ends = "keywright_certificate_expires_timestamp_seconds ";
    let ends = figures.lines().find_map(|line| line.strip_prefix(ends));
    assert!(ends.unwrap().parse::<i64>().unwrap() > 0, "{figures}");
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(30), task)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_certificate_is_read_again_and_a_bad_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    write_certificate(folder.path());
    let (cert, key) = (
        folder.path().join("cert.pem"),
        folder.path().join("key.pem"),
    );
    let tls = Tls::load(&cert, &key).unwrap();
    write_certificate(folder.path());
    assert!(tls.reload().is_ok());
    // The key of another certificate, then none at all.
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    fs::write(&cert, other.cert.pem()).unwrap();
    let error = tls.reload().unwrap_err().to_string();
    assert!(error.contains("tls.cert"), "{error}");
    fs::write(&key, "secret-canary").unwrap();
    let error = tls.reload().unwrap_err().to_string();
    assert!(
        error.contains("tls.key") && !error.contains("canary"),
        "{error}"
    );
    let missing = Tls::load(&folder.path().join("none"), &key).err().unwrap();
    assert!(missing.to_string().starts_with("tls.cert: "));
}

/// A pair whose certificate is good from one New Year's Day to another.
fn write_dated(folder: &Path, years: [i32; 2]) {
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(years[0], 1, 1);
    params.not_after = rcgen::date_time_ymd(years[1], 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let made = params.self_signed(&key).unwrap();
    fs::write(folder.join("cert.pem"), made.pem()).unwrap();
    fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
}

#[tokio::test]
async fn a_certificate_that_is_over_does_not_take_the_place_of_a_good_one() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = (
        folder.path().join("cert.pem"),
        folder.path().join("key.pem"),
    );
    write_dated(folder.path(), [2020, 4000]);
    let tls = Tls::load(&cert, &key).unwrap();
    let good = tls.dates().unwrap();
    assert_eq!(good.begins_at, 1_577_836_800, "2020-01-01");
    assert!(matches!(good.now(), CertificateState::Good(_)), "{good:?}");
    for bad in [[2000, 2001], [3999, 4000]] {
        write_dated(folder.path(), bad);
        let dates = super::check_certificate(&cert, &key).unwrap();
        assert!(!dates.now().is_good(), "{dates:?}");
        let error = tls.reload().unwrap_err().to_string();
        assert!(error.starts_with("tls.cert: "), "{error}");
        assert_eq!(tls.dates(), Some(good));
        // Whoever has no better one is served with it: a restart must not make it worse.
        let bad = Tls::load(&cert, &key).unwrap();
        assert!(bad.reload().is_ok());
        write_dated(folder.path(), [2020, 4000]);
        assert!(bad.reload().is_ok() && bad.dates() == Some(good));
    }
}

#[tokio::test]
async fn at_the_end_readiness_says_no_before_connections_are_refused() {
    let server = TestServer::with(|settings| {
        settings.drain_notice = Duration::from_millis(1500);
    })
    .await;
    let bind = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (listener, machines) = (bind().await, bind().await);
    let address = listener.local_addr().unwrap();
    let machine_address = machines.local_addr().unwrap();
    let stop = CancellationToken::new();
    let end = CancellationToken::new();
    let (running, token) = (server.server.clone(), stop.clone());
    let task = tokio::spawn(async move { serve(&running, listener, token).await });
    let (running, token) = (server.server.clone(), end.clone());
    let machine_task = tokio::spawn(async move { serve_machines(&running, machines, token).await });

    assert!(ask(address, READY).await.starts_with("HTTP/1.1 200 "));
    assert!(
        ask(machine_address, READY)
            .await
            .starts_with("HTTP/1.1 200 ")
    );
    let page = READY.replace("/readyz", "/api/docs");
    assert!(
        ask(machine_address, &page)
            .await
            .starts_with("HTTP/1.1 404 ")
    );
    stop.cancel();
    tokio::time::sleep(Duration::from_millis(200)).await;
    for one in [address, machine_address] {
        let answer = ask(one, READY).await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("draining"));
    }
    let health = READY.replace("/readyz", "/healthz");
    assert!(ask(address, &health).await.starts_with("HTTP/1.1 200 "));
    tokio::time::timeout(Duration::from_secs(30), task)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(TcpStream::connect(address).await.is_err());
    end.cancel();
    machine_task.await.unwrap();
}

/// The kernel lets callers in of whom tokio does not know yet: here all of them, since nothing of this
/// program runs between their connecting and the end.
#[tokio::test]
async fn ac_204_whoever_was_let_in_is_answered_after_the_end() {
    for most in [64, 1] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (refuse, open) = (CancellationToken::new(), Gauge::default());
        let there = open.clone();
        let answer = async |_, _| {
            Ok(axum::response::Response::new(axum::body::Body::from(
                "whole",
            )))
        };
        let answer = move |address, request| {
            assert!(there.get() > 0, "who is there is counted");
            answer(address, request)
        };
        let task = tokio::spawn(take(
            answer,
            listener,
            None,
            refuse.clone(),
            Places {
                most,
                open: open.clone(),
            },
            Duration::from_secs(5),
        ));
        tokio::task::yield_now().await;
        let callers: Vec<_> = (0..20)
            .map(|_| {
                let mut stream = std::net::TcpStream::connect(address).unwrap();
                stream.write_all(READY.as_bytes()).unwrap();
                stream.set_nonblocking(true).unwrap();
                TcpStream::from_std(stream).unwrap()
            })
            .collect();
        refuse.cancel();
        for mut caller in callers {
            let mut answer = String::new();
            caller.read_to_string(&mut answer).await.unwrap();
            assert!(answer.ends_with("whole"), "{answer}");
        }
        task.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err());
        for _ in 0..100 {
            if open.get() == 0 {
                break;
            }
            tokio::task::yield_now().await;
        }
        assert_eq!(open.get(), 0, "who left is not counted");
    }
}

async fn running(server: &TestServer) -> (SocketAddr, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let (running, token) = (server.server.clone(), stop.clone());
    tokio::spawn(async move { serve(&running, listener, token).await });
    (address, stop)
}

/// Whatever a request says, its headers' room serves the answer and the next request: nothing of it may show.
#[tokio::test]
async fn no_header_of_a_request_comes_back() {
    let server = TestServer::with(|_| {}).await;
    let root = server.root_key.expose().to_owned();
    let (address, stop) = running(&server).await;
    let body = format!(r#"{{"key": "{root}"}}"#);
    let length = body.len();
    let verify = format!(
        "POST /api/v1/keys/verify HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Authorization: Bearer {root}\r\nContent-Length: {length}\r\nX-Canary: canary-1\r\nX-Canary: canary-2\r\n"
    );
    let gateway = format!(
        "GET /verify HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {root}\r\nX-Canary: canary-3\r\n"
    );
    let many: String = (0..60)
        .map(|at| format!("X-Canary-{at}: canary\r\n"))
        .collect();
    let last = "Connection: close\r\n";
    let asked = format!(
        "{verify}\r\n{body}{gateway}\r\n{verify}{many}\r\n{body}{gateway}{many}\r\n{verify}{last}\r\n{body}"
    );
    let told = ask(address, &asked).await;
    assert!(!told.to_lowercase().contains("canary"), "{told}");
    assert_eq!(told.matches("HTTP/1.1 200 OK").count(), 3, "{told}");
    assert_eq!(told.matches("HTTP/1.1 204 No Content").count(), 2, "{told}");
    assert_eq!(told.matches("x-frame-options: DENY").count(), 5, "{told}");
    stop.cancel();
}

#[tokio::test]
async fn a_request_with_too_many_headers_is_refused() {
    let server = TestServer::with(|_| {}).await;
    let (address, stop) = running(&server).await;
    for (count, status) in [(90, "200 "), (101, "431 ")] {
        let many: String = (0..count).map(|at| format!("X-{at}: a\r\n")).collect();
        let asked =
            format!("GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{many}\r\n");
        let told = ask(address, &asked).await;
        assert!(
            told.starts_with(&format!("HTTP/1.1 {status}")),
            "{count}: {told}"
        );
    }
    stop.cancel();
}
