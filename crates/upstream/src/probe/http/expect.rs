//! Whether an answer is the one wanted.

use fathom_core::plan::{HttpProbePlan, JsonExpect, JsonStep};
use serde_json::Value;

use super::{Failure, Response};

/// Compares an answer with the plan.
pub(super) fn response(plan: &HttpProbePlan, response: &Response) -> Result<(), Failure> {
    let status = response.status;
    if !plan
        .expect_status
        .iter()
        .any(|&(low, high)| (low..=high).contains(&status))
    {
        return Err(Failure::new(format_args!(
            "status {status}, wanted {}",
            ranges(&plan.expect_status)
        )));
    }
    if let Some(regex) = &plan.expect_body
        && !regex.is_match(&response.body)
    {
        return Err(Failure::new(format_args!(
            "status {status}, body does not match {:?}",
            regex.as_str()
        )));
    }
    match &plan.expect_json {
        Some(expect) => json(expect, &response.body),
        None => Ok(()),
    }
}

fn ranges(ranges: &[(u16, u16)]) -> String {
    let texts: Vec<_> = ranges
        .iter()
        .map(|(low, high)| {
            if low == high {
                low.to_string()
            } else {
                format!("{low}-{high}")
            }
        })
        .collect();
    texts.join(", ")
}

fn json(expect: &JsonExpect, body: &[u8]) -> Result<(), Failure> {
    let document: Value = serde_json::from_slice(body)
        .map_err(|e| Failure::new(format_args!("body is not JSON: {e}")))?;
    let wanted: Value = serde_json::from_str(&expect.equals)
        .map_err(|e| Failure::new(format_args!("equals: {e}")))?;
    let path = path(&expect.path);
    let found = expect
        .path
        .iter()
        .try_fold(&document, |value, step| match step {
            JsonStep::Key(key) => value.get(key),
            JsonStep::Index(index) => value.get(index),
        });
    match found {
        Some(found) if same(found, &wanted) => Ok(()),
        Some(found) => Err(Failure::new(format_args!(
            "{path} is {found}, wanted {wanted}"
        ))),
        None => Err(Failure::new(format_args!(
            "{path} is missing, wanted {wanted}"
        ))),
    }
}

/// `3` and `3.0` are the same number (RFC 8259 §6 knows only one kind).
fn same(a: &Value, b: &Value) -> bool {
    a == b || matches!((a.as_f64(), b.as_f64()), (Some(a), Some(b)) if a == b)
}

fn path(steps: &[JsonStep]) -> String {
    let mut text = "$".to_owned();
    for step in steps {
        match step {
            JsonStep::Key(key) => text.extend([".", key]),
            JsonStep::Index(index) => text.push_str(&format!("[{index}]")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use fathom_core::plan::Regex;

    use super::*;

    fn plan() -> HttpProbePlan {
        HttpProbePlan {
            path: "/".into(),
            method: "GET".into(),
            host: None,
            headers: Vec::new(),
            expect_status: vec![(200, 299), (404, 404)],
            expect_body: None,
            expect_json: None,
        }
    }

    fn verdict(plan: &HttpProbePlan, status: u16, body: &str) -> Result<(), String> {
        response(
            plan,
            &Response {
                status,
                body: body.into(),
            },
        )
        .map_err(|f| f.to_string())
    }

    #[test]
    fn statuses_are_inclusive_ranges() {
        for status in [200, 204, 299, 404] {
            assert_eq!(verdict(&plan(), status, ""), Ok(()));
        }
        for status in [199, 300, 403, 500] {
            assert_eq!(
                verdict(&plan(), status, ""),
                Err(format!("status {status}, wanted 200-299, 404"))
            );
        }
    }

    #[test]
    fn a_body_must_match() {
        let plan = HttpProbePlan {
            expect_body: Some(Regex::new(r#""status":\s*"ok""#).unwrap()),
            ..plan()
        };
        assert_eq!(verdict(&plan, 200, r#"{"status": "ok"}"#), Ok(()));
        assert!(
            verdict(&plan, 200, "down")
                .unwrap_err()
                .contains("does not match")
        );
    }

    #[test]
    fn a_json_field_must_equal() {
        let step = |key: &str| JsonStep::Key(key.into());
        let expect = |path: &[JsonStep], equals: &str| {
            let expect_json = Some(JsonExpect {
                path: path.into(),
                equals: equals.into(),
            });
            HttpProbePlan {
                expect_json,
                ..plan()
            }
        };
        let nested = expect(&[step("checks"), JsonStep::Index(1), step("n")], "3");
        for (plan, body, wanted) in [
            (
                &expect(&[step("status")], r#""ok""#),
                r#"{"status":"ok"}"#,
                Ok(()),
            ),
            (
                &expect(&[step("status")], r#""ok""#),
                r#"{"status":"bad"}"#,
                Err(r#"$.status is "bad", wanted "ok""#),
            ),
            (
                &expect(&[step("status")], r#""ok""#),
                "{}",
                Err(r#"$.status is missing, wanted "ok""#),
            ),
            (&expect(&[], "true"), "true", Ok(())),
            (&nested, r#"{"checks":[0,{"n":3.0}]}"#, Ok(())),
            (
                &nested,
                r#"{"checks":{"1":{"n":3}}}"#,
                Err("$.checks[1].n is missing, wanted 3"),
            ),
        ] {
            assert_eq!(
                verdict(plan, 200, body),
                wanted.map_err(str::to_owned),
                "{body}"
            );
        }
        assert!(
            verdict(&nested, 200, "<html>")
                .unwrap_err()
                .starts_with("body is not JSON")
        );
    }
}
