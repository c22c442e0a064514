use super::*;
use serde::Deserialize;

/// What the tests turn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Config {
    /// Passes over the data.
    epochs: u32,
    /// Step size of Adam,
    /// before its schedule.
    #[serde(default)]
    pub learning_rate: f32,
    /// Widths of the hidden layers.
    hidden: Vec<usize>,
    /// Which activation.
    activation: Activation,
    name: String,
    /// Whether examples are shuffled.
    shuffle: bool,
    /// Stop early after this many epochs.
    patience: Option<u32>,
    /// The optimiser's own.
    optimiser: Inner,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Inner {
    /// Share of the old gradient kept.
    momentum: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Activation {
    Relu,
    Tanh,
}

fn defaults() -> Config {
    Config {
        epochs: 8,
        learning_rate: 1e-3,
        hidden: vec![64, 32],
        activation: Activation::Relu,
        name: "a \"b\"".into(),
        shuffle: true,
        patience: None,
        optimiser: Inner { momentum: 0.9 },
    }
}

fn one(setting: &str) -> std::result::Result<Config, String> {
    apply("lenet", &defaults(), &[setting], &[]).map_err(|e| e.to_string())
}

#[test]
fn sets_every_kind() {
    assert_eq!(one("epochs=3").unwrap().epochs, 3);
    assert_eq!(one("epochs = 1e3").unwrap().epochs, 1000);
    assert_eq!(one("learning_rate=0.1").unwrap().learning_rate, 0.1);
    assert_eq!(one("learning_rate=1").unwrap().learning_rate, 1.0);
    assert_eq!(one("hidden=[5]").unwrap().hidden, [5]);
    assert_eq!(one("hidden=[]").unwrap().hidden, [0usize; 0]);
    assert_eq!(one("activation=tanh").unwrap().activation, Activation::Tanh);
    assert_eq!(one("activation=\"tanh\"").unwrap().activation, Activation::Tanh);
    assert_eq!(one("name=plain=words").unwrap().name, "plain=words");
    assert_eq!(one("name=5").unwrap().name, "5");
    assert!(!one("shuffle=false").unwrap().shuffle);
    assert_eq!(one("patience=4").unwrap().patience, Some(4));
    assert_eq!(one("optimiser.momentum=0").unwrap().optimiser.momentum, 0.0);
    assert_eq!(apply("lenet", &defaults(), &["patience=4", "patience=none"], &[]).unwrap(), defaults());
    assert_eq!(one("name=none").unwrap().name, "none");
    assert_eq!(apply("lenet", &defaults(), &[] as &[&str], &[]).unwrap(), defaults());
}

#[test]
fn unknown_names_suggest_the_nearest() {
    let expected = "lenet has no knob `lerning_rate`; did you mean `learning_rate`? (etude show lenet lists all 8)";
    assert_eq!(one("lerning_rate=0.01").unwrap_err(), expected);
    assert_eq!(one("colour=red").unwrap_err(), "lenet has no knob `colour`; etude show lenet lists all 8");
    assert!(one("momentum=1").unwrap_err().contains("did you mean `optimiser.momentum`?"));
    assert!(one("optimiser=1").unwrap_err().starts_with("lenet has no knob `optimiser`"));
    assert!(one("epochs").unwrap_err().contains("no `=` in it; write --set name=value"));
}

#[test]
fn wrong_values_say_what_is_expected() {
    let cases = [
        ("epochs=many", "lenet: `epochs` takes a whole number, not `many` (it is 8 now)"),
        ("epochs=none", "lenet: `epochs` takes a whole number, not `none` (it is 8 now)"),
        ("epochs=1.5", "lenet: `epochs` takes a whole number, not `1.5` (it is 8 now)"),
        ("epochs=", "lenet: `epochs` takes a whole number, not `` (it is 8 now)"),
        ("learning_rate=fast", "lenet: `learning_rate` takes a number, not `fast` (it is 0.001 now)"),
        ("learning_rate=nan", "lenet: `learning_rate` takes a number, not `nan` (it is 0.001 now)"),
        ("shuffle=yes", "lenet: `shuffle` takes true or false, not `yes` (it is true now)"),
        ("hidden=5", "lenet: `hidden` takes a list such as [1, 2], not `5` (it is [64, 32] now)"),
    ];
    for (setting, message) in cases {
        assert_eq!(one(setting).unwrap_err(), message);
    }
    assert!(one("epochs=-1").unwrap_err().contains("invalid value: integer `-1`, expected u32"));
    assert!(one("epochs=99999999999").unwrap_err().contains("expected u32"));
    assert!(one("activation=gelu").unwrap_err().contains("unknown variant `gelu`, expected `relu` or `tanh`"));
    assert!(one("hidden=[1, 'a']").unwrap_err().contains("expected usize"));
    assert!(one("epochs=1\nname=2").is_err());
}

#[test]
fn knobs_are_read_off_the_struct_and_its_source() {
    let docs = docs_from_source(include_str!("config_tests.rs"), "Config");
    let knobs = knobs(&defaults(), &docs);
    let names: Vec<&str> = knobs.iter().map(|k| k.name.as_str()).collect();
    let order =
        ["epochs", "learning_rate", "hidden", "activation", "name", "shuffle", "patience", "optimiser.momentum"];
    assert_eq!(names, order);
    assert_eq!(knobs[0].doc, "Passes over the data.");
    assert_eq!(knobs[1].doc, "Step size of Adam, before its schedule.");
    assert_eq!((knobs[1].default.as_str(), knobs[1].takes), ("0.001", "a number"));
    assert_eq!(knobs[4].doc, "", "a field without a comment takes none from its neighbour");
    assert_eq!((knobs[6].default.as_str(), knobs[2].default.as_str()), ("none", "[64, 32]"));
    assert!(docs_from_source("nothing here", "Config").is_empty());
    let family = docs_from_source(
        "pub struct Game<const KIND: usize> {\n    /// Steps. [1..]\n    pub steps: u64,\n}\n",
        "Game",
    );
    assert_eq!(family, [("steps".to_string(), "Steps. [1..]".to_string())]);
}

#[test]
fn toml_goes_out_and_comes_back() {
    let docs = docs_from_source(include_str!("config_tests.rs"), "Config");
    let mut config = defaults();
    config.learning_rate = 0.1;
    let text = to_toml(&config, &docs);
    assert!(text.starts_with("# Passes over the data.\nepochs = 8\n# Step size"), "{text}");
    assert!(text.contains("learning_rate = 0.1\n") && text.contains("# patience is not set"), "{text}");
    assert!(text.ends_with("\n# The optimiser's own.\n[optimiser]\nmomentum = 0.9\n"), "{text}");
    let elsewhere = apply("lenet", &defaults(), &["epochs=1", "optimiser.momentum=0.5", "name=x"], &[]).unwrap();
    assert_eq!(from_toml("lenet", &elsewhere, &text, "config.toml", &[]).unwrap(), config);
}

#[test]
fn foreign_toml_is_explained() {
    let read = |text: &str| from_toml("lenet", &defaults(), text, "c.toml", &[]).map_err(|e| e.to_string());
    assert_eq!(read("epochs = 2").unwrap().epochs, 2);
    assert!(
        read("[optimiser]\nmomentun = 1").unwrap_err().starts_with("c.toml: lenet has no knob `optimiser.momentun`")
    );
    assert!(read("epochs = 'x'").unwrap_err().starts_with("c.toml: lenet: `epochs` takes a whole number"));
    let error = read("epochs = 1\nname = \n").unwrap_err();
    assert!(error.starts_with("c.toml: line 2: ") && !error.contains('\n'), "{error}");
}

#[test]
fn nearest_names() {
    assert_eq!(nearest("lentet", ["lenet", "vgg", "alexnet"]), Some("lenet"));
    assert_eq!(nearest("LENET", ["lenet"]), Some("lenet"));
    assert_eq!(nearest("eopchs", ["epochs", "batch"]), Some("epochs"));
    assert_eq!(nearest("zzz", ["lenet", "vgg"]), None);
    assert_eq!(nearest("x", []), None);
    assert_eq!(distance("ab", "ba"), 1);
    assert_eq!(distance("", "abc"), 3);
}

#[test]
fn ranges_end_an_explanation_and_are_held() {
    let docs: Vec<(String, String)> =
        [("epochs", "Passes. [1..9]"), ("hidden", "Widths. [1..]"), ("learning_rate", "Step [a]. [0..1]")]
            .map(|(name, text)| (name.to_string(), text.to_string()))
            .into();
    let one = |setting: &str| apply("lenet", &defaults(), &[setting], &docs).map_err(|e| e.to_string());
    assert_eq!(one("epochs=9").unwrap().epochs, 9);
    assert_eq!(one("epochs=0").unwrap_err(), "lenet: `epochs` takes a whole number, not `0`: 1 at least (it is 8 now)");
    assert!(one("epochs=10").unwrap_err().contains("9 at most"));
    assert!(one("hidden=[4, 0]").unwrap_err().contains("1 at least"));
    assert!(one("learning_rate=-0.1").unwrap_err().contains("0 at least"));
    assert!(
        from_toml("lenet", &defaults(), "epochs = 0", "c.toml", &docs).unwrap_err().to_string().contains("1 at least")
    );
    let knobs = knobs(&defaults(), &docs);
    assert_eq!(knobs.iter().find(|knob| knob.name == "hidden").unwrap().range(), Some((1.0, f64::INFINITY)));
    assert_eq!(knobs.iter().find(|knob| knob.name == "shuffle").unwrap().range(), None);
}
