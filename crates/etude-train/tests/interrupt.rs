//! Ctrl-C on a real process: the first asks, the second ends it.
#![cfg(unix)]

use etude_train::interrupt;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Starts this test again as a process that waits for Ctrl-C, and returns once it is ready.
fn start(kind: &str) -> (Child, BufReader<std::process::ChildStderr>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "first_asks_second_ends", "--nocapture"])
        .env("ETUDE_TEST_INTERRUPT", kind)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    wait_for(&mut said, "ready");
    (child, said)
}

fn wait_for(said: &mut impl BufRead, word: &str) {
    let found = said.lines().any(|line| line.unwrap().contains(word));
    assert!(found, "the process ended without saying `{word}`");
}

fn press(child: &Child) {
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
}

#[test]
fn first_asks_second_ends() {
    if let Ok(kind) = std::env::var("ETUDE_TEST_INTERRUPT") {
        interrupt::install().unwrap();
        interrupt::install().unwrap();
        assert!(!interrupt::interrupted());
        eprintln!("ready");
        while !interrupt::interrupted() {
            std::thread::sleep(Duration::from_millis(2));
        }
        eprintln!("asked");
        if kind == "stubborn" {
            std::thread::sleep(Duration::from_secs(60));
        }
        std::process::exit(7);
    }
    let (mut polite, _said) = start("polite");
    press(&polite);
    assert_eq!(polite.wait().unwrap().code(), Some(7), "it went on to save");

    let (mut stubborn, mut said) = start("stubborn");
    press(&stubborn);
    wait_for(&mut said, "asked");
    press(&stubborn);
    assert_eq!(stubborn.wait().unwrap().code(), Some(interrupt::EXIT_STATUS));
}
