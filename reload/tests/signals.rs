//! Real signals to a real process: this one. The only test of its program, because signals are everybody's.

#![cfg(unix)]

use futures::StreamExt;
use reload::signal::{Signal, listen};

#[test]
fn signals_arrive_with_the_name_of_who_sent_them() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut signals = listen().unwrap();
        for (name, is_reload) in [("-HUP", true), ("-TERM", false), ("-INT", false), ("-HUP", true)] {
            let kill =
                std::process::Command::new("kill").args([name, &std::process::id().to_string()]).spawn();
            let mut kill = kill.unwrap();
            let signal = signals.next().await.unwrap();
            let (Signal::Reload(sender) | Signal::Stop(sender)) = &signal;
            assert_eq!(matches!(signal, Signal::Reload(_)), is_reload, "{name}: {signal:?}");
            let (pid, _) = sender.process.expect("the kernel tells who calls kill");
            assert_eq!(pid, i32::try_from(kill.id()).unwrap());
            assert!(sender.to_string().ends_with(&format!("pid:{pid}")), "{sender}");
            kill.wait().unwrap();
        }
    });
}
