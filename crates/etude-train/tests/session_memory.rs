//! A loop with two optimisers takes no more memory at step 3,000 than at step 300.

use etude_core::randn;
use etude_nn::optim::Adam;
use etude_nn::{Forward, Linear};
use etude_train::Session;
use etude_train::run::Run;
use etude_train::units::resident_memory;

#[test]
fn memory_stays_flat() {
    let root = std::env::temp_dir().join(format!("etude-session-memory-{}", std::process::id()));
    let session = Session::new(Run::create(&root, "a", "", 11, false).unwrap(), None, 11).quiet(true);
    let (generator, critic) = (Linear::new(64, 64).init(), Linear::new(64, 1).init());
    let mut g_step = Adam::new(1e-3).over(&generator);
    let mut c_step = Adam::new(1e-3).over(&critic);
    let mut early = None;
    for step in session.steps(3000) {
        let step = step.unwrap();
        let fake = generator.forward(&randn([32, 64]));
        let c_loss = critic.forward(&fake.detach()).square().mean(..);
        c_step.minimise(&c_loss).unwrap();
        let g_loss = (critic.forward(&fake) - 1.0).square().mean(..);
        g_step.minimise(&g_loss).unwrap();
        session.log(&[("critic", &c_loss), ("generator", &g_loss)]).unwrap();
        if step == 300 {
            early = resident_memory();
        }
    }
    let _ = std::fs::remove_dir_all(&root);
    // Systems that do not say how much memory a process holds cannot be asked.
    let (Some(early), Some(late)) = (early, resident_memory()) else { return };
    let growth = late as f64 / early as f64 - 1.0;
    assert!(growth <= 0.01, "resident memory went from {early} to {late} bytes, {:+.1} %", growth * 100.0);
}
