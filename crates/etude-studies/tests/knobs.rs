//! Knobs from outside: every number has a range, and what lies outside of it is refused before anything runs.

use etude_studies::{Settings, studies};

#[test]
fn every_numeric_knob_has_a_range_and_holds_it() {
    for study in studies() {
        for knob in (study.knobs)() {
            if !knob.takes.contains("number") {
                continue;
            }
            let name = format!("{}.{}", study.name, knob.name);
            let (low, high) =
                knob.range().unwrap_or_else(|| panic!("{name} has no range; end its comment with one: [1..]"));
            let whole = knob.takes.contains("whole");
            let beyond = [low - 1.0, if high.is_finite() { high + 1.0 } else { f64::NAN }];
            for value in beyond.into_iter().filter(|value| value.is_finite()) {
                let text = if whole { format!("{value:.0}") } else { format!("{value:e}") };
                let settings = Settings { set: vec![format!("{}={text}", knob.name)], quick: false };
                let said = (study.config)(&settings).expect_err(&name).to_string();
                assert!(said.contains(&knob.name) && !said.contains('\n'), "{name}: {said}");
            }
            for quick in [false, true] {
                let settings = Settings { set: Vec::new(), quick };
                assert!((study.config)(&settings).is_ok(), "{name}: the default is refused");
            }
        }
    }
}
