//! Whatever is in a file, loading it ends with a plan or with errors that can be shown. Also a fuzz target.

use fathom_config::{ExplainRequest, diff, explain, load_str_with};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

fn load(text: &str) {
    match load_str_with("t.toml", text, &|_| None) {
        Ok(loaded) => {
            let _ = loaded.warnings.render(true);
            let request = ExplainRequest {
                method: "GET".into(),
                url: "http://a/b?c".into(),
                ..ExplainRequest::default()
            };
            if let Ok(explanation) = explain(&loaded.plan, &request) {
                let _ = explanation.to_text();
                let _ = explanation.to_json();
            }
            assert!(diff(&loaded.plan, &loaded.plan).is_empty());
        }
        Err(errors) => {
            assert!(!errors.is_empty());
            let _ = errors.render(false);
            let _ = errors.to_json();
        }
    }
}

proptest! {
    #![proptest_config(Config { cases: 96, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Config::default() })]

    #[test]
    fn any_text(text in "\\PC{0,200}") {
        load(&text);
    }

    #[test]
    fn nearly_toml(lines in prop::collection::vec(
        "(\\[{1,2}(listeners|pools)\\.[a-c](\\.(routes|tls|health|packet))?\\]{1,2}|(bind|depth|pool|match|tls|servers|health|x|\"é\") = (1|1\\.5|true|\"[:~/*a\\\\$\\{\\}é]{0,6}\"|\"(http|stream|packet|a|:1)\"|\\[(\"a:1\"|\\{\\}|1)?\\]|\\{ (path|http|address|host) = (\"[~/*(é]{0,4}\"|1) \\}))",
        0..12,
    )) {
        load(&lines.join("\n"));
    }

    /// A real file with a piece cut out or doubled.
    #[test]
    fn mutilated_examples(from in 0usize..6000, len in 0usize..80, to in 0usize..6000) {
        let text: Vec<char> = include_str!("../../../examples/everything.toml").chars().collect();
        let from = from % text.len();
        let end = (from + len).min(text.len());
        let cut: String = text[..from].iter().chain(&text[end..]).collect();
        load(&cut);
        let to = to % text.len();
        let moved: String = text[..to].iter().chain(&text[from..end]).chain(&text[to..]).collect();
        load(&moved);
    }
}
