//! What the crate promises, handshake by handshake: choice by SNI, client certificates, refresh, resumption, refusals.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use fathom_core::plan::{
    CertificatePlan, ClientAuthPlan, ServerProtocol, TlsClientPlan, TlsListenerPlan, TlsProtocol,
    TlsVersion,
};
use fathom_tls::{Acceptor, Connector, HandshakeError, Session};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

struct Ca {
    dir: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key"))
            .expect("signed");
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("ca.pem"), issuer.pem()).expect("written");
        Self { dir, issuer }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes `FILE.pem` and `FILE.key` for these names.
    fn issue(&self, file: &str, names: &[&str]) -> CertificatePlan {
        self.issue_serial(file, names, 7)
    }

    fn issue_serial(&self, file: &str, names: &[&str], serial: u64) -> CertificatePlan {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, file);
        params.serial_number = Some(serial.into());
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.issuer).expect("signed");
        let plan = CertificatePlan {
            cert: self.path(&format!("{file}.pem")),
            key: self.path(&format!("{file}.key")),
            ocsp: None,
        };
        std::fs::write(&plan.cert, cert.pem()).expect("written");
        std::fs::write(&plan.key, key.serialize_pem()).expect("written");
        plan
    }

    fn revoke(&self, file: &str, serial: u64) -> PathBuf {
        let at = rcgen::date_time_ymd(2025, 1, 1);
        let params = rcgen::CertificateRevocationListParams {
            this_update: at,
            next_update: rcgen::date_time_ymd(2125, 1, 1),
            crl_number: 1_u64.into(),
            issuing_distribution_point: None,
            revoked_certs: vec![rcgen::RevokedCertParams {
                serial_number: serial.into(),
                revocation_time: at,
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        let path = self.path(file);
        std::fs::write(
            &path,
            params
                .signed_by(&self.issuer)
                .expect("signed")
                .pem()
                .expect("pem"),
        )
        .expect("written");
        path
    }
}

fn listener(certificates: Vec<CertificatePlan>) -> TlsListenerPlan {
    TlsListenerPlan {
        certificates,
        min_version: TlsVersion::V1_2,
        protocols: vec![TlsProtocol::H2, TlsProtocol::Http1],
        client_auth: None,
        ticket_keys: None,
        handshake_rate: None,
        redirect_http: false,
    }
}

fn client(ca: &Path) -> TlsClientPlan {
    TlsClientPlan {
        server_name: None,
        ca: Some(ca.to_owned()),
        client: None,
        verify: true,
    }
}

/// One handshake over an in-memory pipe, and one byte each way; what both sides say.
async fn shake(
    acceptor: &Acceptor,
    connector: &Connector,
    host: &str,
) -> (Result<Session, HandshakeError>, Result<(), HandshakeError>) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let server = async {
        let (mut stream, session) = acceptor.accept(near, Bytes::new()).await?;
        let byte = stream
            .read_u8()
            .await
            .map_err(|e| HandshakeError::Other(e.to_string()))?;
        stream
            .write_u8(byte)
            .await
            .map_err(|e| HandshakeError::Other(e.to_string()))?;
        stream
            .flush()
            .await
            .map_err(|e| HandshakeError::Other(e.to_string()))?;
        Ok(session)
    };
    let client = async {
        let mut stream = connector.connect(far, Some(host), LOCALHOST).await?;
        stream
            .write_u8(42)
            .await
            .map_err(|e| HandshakeError::Other(e.to_string()))?;
        stream
            .flush()
            .await
            .map_err(|e| HandshakeError::Other(e.to_string()))?;
        match stream.read_u8().await {
            Ok(42) => Ok(()),
            other => Err(HandshakeError::Other(format!("{other:?}"))),
        }
    };
    tokio::join!(server, client)
}

#[tokio::test]
async fn names_choose_certificates_and_unknown_names_get_the_first() {
    let ca = Ca::new();
    let plan = listener(vec![
        ca.issue("first", &["a.example"]),
        ca.issue("exact", &["b.example"]),
        ca.issue("wild", &["*.example.org"]),
    ]);
    let acceptor = Acceptor::new(&plan, None).expect("good files");
    let connector =
        Connector::new(&client(&ca.path("ca.pem")), ServerProtocol::Http1).expect("good files");
    for name in ["a.example", "b.example", "x.example.org", "B.EXAMPLE"] {
        let (server, client) = shake(&acceptor, &connector, name).await;
        assert_eq!(
            server.expect(name).sni.as_deref(),
            Some(name.to_ascii_lowercase().as_str())
        );
        client.expect(name);
    }
    // A wildcard is one label; the first certificate is shown, and the client refuses it by name.
    for name in ["x.y.example.org", "nowhere.example"] {
        let (_, client) = shake(&acceptor, &connector, name).await;
        assert!(
            matches!(client, Err(HandshakeError::Certificate(_))),
            "{name}: {client:?}"
        );
    }
}

#[tokio::test]
async fn a_session_says_what_was_agreed_and_is_resumed_by_ticket_over_a_reload() {
    let ca = Ca::new();
    let plan = listener(vec![ca.issue("one", &["a.example"])]);
    let acceptor = Acceptor::new(&plan, None).expect("good files");
    let connector =
        Connector::new(&client(&ca.path("ca.pem")), ServerProtocol::Grpc).expect("good files");
    let (server, client) = shake(&acceptor, &connector, "a.example").await;
    client.expect("agreed");
    let session = server.expect("agreed");
    assert!(session.h2 && !session.resumed);
    assert_eq!(session.version, "TLSv1.3");
    assert!(
        session.cipher.starts_with("TLS13_") || session.cipher.starts_with("TLS_"),
        "{}",
        session.cipher
    );
    let after = Acceptor::new(&plan, Some(&acceptor)).expect("good files");
    let (server, client) = shake(&after, &connector, "a.example").await;
    client.expect("agreed");
    assert!(server.expect("agreed").resumed);
}

#[tokio::test]
async fn client_certificates_are_asked_for_checked_and_named() {
    let ca = Ca::new();
    let good = ca.issue_serial("good", &["good.client"], 21);
    let revoked = ca.issue_serial("revoked", &["revoked.client"], 22);
    let crl = ca.revoke("clients.crl", 22);
    let mut plan = listener(vec![ca.issue("one", &["a.example"])]);
    let mut auth = ClientAuthPlan {
        ca: ca.path("ca.pem"),
        required: true,
        crl: vec![crl],
        identity_header: None,
    };
    plan.client_auth = Some(auth.clone());
    let required = Acceptor::new(&plan, None).expect("good files");
    auth.required = false;
    plan.client_auth = Some(auth);
    let optional = Acceptor::new(&plan, None).expect("good files");

    let anonymous =
        Connector::new(&client(&ca.path("ca.pem")), ServerProtocol::Http1).expect("good files");
    let with = |plan: &CertificatePlan| {
        let client = TlsClientPlan {
            client: Some((plan.cert.clone(), plan.key.clone())),
            ..client(&ca.path("ca.pem"))
        };
        Connector::new(&client, ServerProtocol::Http1).expect("good files")
    };
    let (server, _) = shake(&required, &anonymous, "a.example").await;
    assert_eq!(server, Err(HandshakeError::ClientCertificateMissing));
    let (server, _) = shake(&optional, &anonymous, "a.example").await;
    assert_eq!(server.expect("optional").client, None);
    let (server, _) = shake(&required, &with(&good), "a.example").await;
    assert!(
        server
            .expect("signed")
            .client
            .expect("named")
            .contains("good")
    );
    let (server, client) = shake(&required, &with(&revoked), "a.example").await;
    assert_eq!(server, Err(HandshakeError::Certificate("Revoked".into())));
    assert!(client.is_err());
}

/// A ticket vouches for its client, whose certificate is not asked for again: it must not outlive what was vouched for.
#[tokio::test]
async fn no_ticket_gets_around_changed_client_authentication() {
    let ca = Ca::new();
    let cert = ca.issue_serial("client", &["some.client"], 31);
    let crl = ca.revoke("clients.crl", 99);
    let open = listener(vec![ca.issue("one", &["a.example"])]);
    let auth = |required, crl: &[PathBuf]| TlsListenerPlan {
        client_auth: Some(ClientAuthPlan {
            ca: ca.path("ca.pem"),
            required,
            crl: crl.to_vec(),
            identity_header: None,
        }),
        ..open.clone()
    };
    let connector = |client_cert: Option<&CertificatePlan>| {
        let client = TlsClientPlan {
            client: client_cert.map(|c| (c.cert.clone(), c.key.clone())),
            ..client(&ca.path("ca.pem"))
        };
        Connector::new(&client, ServerProtocol::Http1).expect("good files")
    };
    let keys = ca.path("ticket.keys");
    std::fs::write(&keys, [7; 80]).expect("written");
    for shared in [None, Some(keys)] {
        let with_keys = |plan: TlsListenerPlan| TlsListenerPlan {
            ticket_keys: shared.clone(),
            ..plan
        };
        // Without a certificate where none was asked for, or needed; then one is.
        for before in [with_keys(open.clone()), with_keys(auth(false, &[]))] {
            let anonymous = connector(None);
            let old = Acceptor::new(&before, None).expect("good files");
            let (server, client) = shake(&old, &anonymous, "a.example").await;
            server.expect("agreed");
            client.expect("agreed");
            let new = with_keys(auth(true, &[]));
            let new = Acceptor::new(&new, Some(&old)).expect("good files");
            let (server, _) = shake(&new, &anonymous, "a.example").await;
            assert_eq!(server, Err(HandshakeError::ClientCertificateMissing));
        }
        // With a certificate that is revoked afterwards: by a reload, and by the file alone.
        ca.revoke("clients.crl", 99);
        let plan = with_keys(auth(true, std::slice::from_ref(&crl)));
        let (known, other) = (connector(Some(&cert)), connector(Some(&cert)));
        let acceptor = Acceptor::new(&plan, None).expect("good files");
        for connector in [&known, &other] {
            let (server, client) = shake(&acceptor, connector, "a.example").await;
            server.expect("agreed");
            client.expect("agreed");
        }
        assert!(!acceptor.refresh(), "the same files");
        let (server, client) = shake(&acceptor, &known, "a.example").await;
        client.expect("agreed");
        assert!(server.expect("agreed").resumed);
        let revoked = Err(HandshakeError::Certificate("Revoked".into()));
        ca.revoke("clients.crl", 31);
        let reloaded = Acceptor::new(&plan, Some(&acceptor)).expect("good files");
        assert_eq!(shake(&reloaded, &known, "a.example").await.0, revoked);
        assert!(acceptor.refresh());
        assert_eq!(shake(&acceptor, &other, "a.example").await.0, revoked);
    }
}

#[tokio::test]
async fn files_are_swapped_when_good_and_kept_when_bad() {
    let ca = Ca::new();
    let plan = listener(vec![ca.issue("one", &["a.example"])]);
    let acceptor = Acceptor::new(&plan, None).expect("good files");
    assert!(!acceptor.refresh(), "nothing changed");
    ca.issue("one", &["b.example"]);
    assert!(acceptor.refresh());
    assert_eq!(acceptor.certificates()[0].names, ["b.example"]);
    // Another's key, garbage, no file: each is reported, and b.example goes on being served.
    let other = ca.issue("other", &["c.example"]);
    let key = &plan.certificates[0].key;
    for (bad, says) in [
        (std::fs::read(&other.key).expect("read"), "does not belong"),
        (b"junk".to_vec(), "private key"),
    ] {
        std::fs::write(key, bad).expect("written");
        assert!(!acceptor.refresh());
        assert!(
            acceptor.errors()[0].contains(says),
            "{:?}",
            acceptor.errors()
        );
    }
    std::fs::remove_file(key).expect("removed");
    assert!(!acceptor.refresh());
    assert!(
        acceptor.errors()[0].contains("No such file"),
        "{:?}",
        acceptor.errors()
    );
    let connector =
        Connector::new(&client(&ca.path("ca.pem")), ServerProtocol::Http1).expect("good files");
    let (server, client) = shake(&acceptor, &connector, "b.example").await;
    server.expect("still served");
    client.expect("still served");
}

#[test]
fn every_bad_file_is_named_at_once() {
    let ca = Ca::new();
    let good = ca.issue("good", &["a.example"]);
    let missing = CertificatePlan {
        cert: ca.path("no.pem"),
        key: ca.path("no.key"),
        ocsp: None,
    };
    let swapped = CertificatePlan {
        cert: good.key.clone(),
        key: good.cert.clone(),
        ocsp: None,
    };
    let errors = Acceptor::new(&listener(vec![missing, swapped, good]), None)
        .map(|_| ())
        .expect_err("two are bad");
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(
        errors[0].to_string().contains("no.pem: No such file"),
        "{}",
        errors[0]
    );
    assert!(
        errors[1].to_string().contains("holds no certificate"),
        "{}",
        errors[1]
    );
}

#[tokio::test]
async fn an_unverified_server_is_refused_unless_told_otherwise() {
    let (ca, other) = (Ca::new(), Ca::new());
    let acceptor =
        Acceptor::new(&listener(vec![ca.issue("one", &["a.example"])]), None).expect("good files");
    let strict =
        Connector::new(&client(&other.path("ca.pem")), ServerProtocol::Http1).expect("good files");
    let (_, refused) = shake(&acceptor, &strict, "a.example").await;
    assert!(
        matches!(refused, Err(HandshakeError::Certificate(_))),
        "{refused:?}"
    );
    let lax = TlsClientPlan {
        verify: false,
        ..client(&other.path("ca.pem"))
    };
    let lax = Connector::new(&lax, ServerProtocol::Http1).expect("good files");
    shake(&acceptor, &lax, "a.example")
        .await
        .1
        .expect("not verified");
    shake(&acceptor, &Connector::probe(), "a.example")
        .await
        .1
        .expect("not verified");
}

#[tokio::test]
async fn bytes_read_ahead_are_part_of_the_handshake_and_garbage_is_refused() {
    let ca = Ca::new();
    let acceptor =
        Acceptor::new(&listener(vec![ca.issue("one", &["a.example"])]), None).expect("good files");
    let (near, mut far) = tokio::io::duplex(4096);
    let refused = acceptor
        .accept(near, Bytes::from_static(b"GET / HTTP/1.1\r\n\r\n"))
        .await
        .map(|_| ());
    assert_eq!(refused, Err(HandshakeError::NotTls));
    let mut alert = Vec::new();
    far.read_to_end(&mut alert).await.expect("read");
    assert_eq!(alert.first(), Some(&21), "an alert record: {alert:?}");
    let (near, far) = tokio::io::duplex(4096);
    drop(far);
    assert_eq!(
        acceptor
            .accept(near, Bytes::from_static(&[22, 3, 1]))
            .await
            .map(|_| ()),
        Err(HandshakeError::Closed)
    );
}

#[tokio::test]
async fn a_changed_file_is_noticed() {
    let ca = Ca::new();
    let plan = listener(vec![ca.issue("one", &["a.example"])]);
    let acceptor = Acceptor::new(&plan, None).expect("good files");
    let noticed = Arc::new(tokio::sync::Notify::new());
    let tell = noticed.clone();
    let mut watcher = fathom_tls::Watcher::new(move || tell.notify_one()).expect("inotify");
    watcher.watch(acceptor.files()).expect("watched");
    ca.issue("one", &["b.example"]);
    noticed.notified().await;
}
