//! `fathom explain`: what would become of a request, from the file alone or as the running process knows it.

use std::path::PathBuf;

use fathom_config::ExplainRequest;

use super::remote;
use super::text::print;
use crate::cli::Explain;
use crate::exit::{Failure, Outcome};
use crate::running::color;

/// Explains offline, or with `--live` has the running process explain.
pub(crate) fn run(words: &Explain) -> Outcome {
    let request = request(words)?;
    if words.live {
        return live(words, request);
    }
    let file = match &words.words[..] {
        [file, _, _] => PathBuf::from(file),
        _ => words
            .remote
            .config
            .clone()
            .unwrap_or_else(|| "fathom.toml".into()),
    };
    let plan = fathom_config::load(&file)
        .map_err(|e| Failure::input(e.render(color())))?
        .plan;
    let explanation = fathom_config::explain(&plan, &request).map_err(Failure::input)?;
    if words.json {
        return print(&format!("{:#}\n", explanation.to_json()));
    }
    print(&explanation.to_text())
}

fn request(words: &Explain) -> Result<ExplainRequest, Failure> {
    let [.., method, url] = &words.words[..] else {
        return Err(Failure::input("explain takes [FILE] METHOD URL"));
    };
    if let Some(path) = &words.body {
        // No route looks into bodies yet; that the file can be read is all there is to say of it.
        std::fs::metadata(path)
            .map_err(|e| Failure::input(format_args!("--body {}: {e}", path.display())))?;
    }
    let header = |line: &String| {
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| Failure::input(format_args!("-H \"{line}\" is not \"Name: value\"")))?;
        Ok((name.trim().to_owned(), value.trim().to_owned()))
    };
    Ok(ExplainRequest {
        method: method.clone(),
        url: url.clone(),
        headers: words.headers.iter().map(header).collect::<Result<_, _>>()?,
        from: words.from,
        listener: words.listener.clone(),
    })
}

fn live(words: &Explain, request: ExplainRequest) -> Outcome {
    if words.words.len() == 3 {
        return Err(Failure::input(
            "--live explains with the configuration of the running process; leave FILE out",
        ));
    }
    let ExplainRequest {
        method,
        url,
        headers,
        from,
        listener,
    } = request;
    let asked = fathom_admin::ExplainRequest {
        method,
        url,
        headers,
        from,
        listener,
        body: None,
    };
    let answer = remote::client(&words.remote)?
        .explain(&asked)
        .map_err(remote::failure)?;
    match answer.get("text").and_then(|t| t.as_str()) {
        Some(text) if !words.json => print(text),
        _ => print(&format!("{answer:#}\n")),
    }
}
