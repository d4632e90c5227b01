//! TLS to a PostgreSQL server, as `sslmode` and `sslrootcert` say. The server has a certificate for
//! `localhost`, of a CA of its own.

use std::path::Path;

use crate::cluster::{refusal_of, run_on, shared, with};

/// A URL of a host, and the sentence's name for the place.
fn of_host(host: &str, role: &str) -> (String, String, String) {
    let cluster = shared();
    let database = cluster.new_database();
    let from = "@127.0.0.1:";
    let to = format!("@{host}:");
    (
        cluster.url(role, &database).replace(from, &to),
        cluster.shown(role, &database).replace(from, &to),
        format!("{host}:{}", cluster.port()),
    )
}

fn certificate(name: &str) -> String {
    let path = shared().folder().join(name);
    format!("sslrootcert={}", path.display())
}

/// The roles that the server lets in only with TLS, or only without, tell what a connection used.
fn assert_connects(role: &str, host: &str, parameters: &str) {
    let (url, shown, _) = of_host(host, role);
    let refusal = refusal_of(&with(&url, parameters), &shown);
    let expected = format!("the role {role} may not create tables; ");
    assert!(
        refusal.starts_with(&expected),
        "{role} {host} {parameters}: {refusal}"
    );
}

#[test]
fn a_connection_is_encrypted_unless_tls_is_disabled() {
    for mode in ["", "sslmode=prefer", "sslmode=allow", "sslmode=require"] {
        assert_connects("only_tls", "127.0.0.1", mode);
    }
    assert_connects("only_plain", "127.0.0.1", "sslmode=disable");
}

#[test]
fn a_certificate_of_the_given_ca_is_taken() {
    let ca = certificate("ca.pem");
    for mode in ["require", "verify-ca", "verify-full"] {
        assert_connects("only_tls", "localhost", &format!("sslmode={mode}&{ca}"));
    }
    // The name counts for verify-full alone.
    for mode in ["require", "verify-ca"] {
        assert_connects("only_tls", "127.0.0.1", &format!("{ca}&sslmode={mode}"));
    }
}

#[test]
fn a_certificate_of_another_ca_is_refused() {
    for mode in ["require", "verify-ca", "verify-full"] {
        let (url, shown, place) = of_host("localhost", "only_tls");
        let parameters = format!("sslmode={mode}&{}", certificate("other.pem"));
        assert_eq!(
            refusal_of(&with(&url, &parameters), &shown),
            format!(
                "the certificate of {place} is of an unknown CA; name the file with its CA's certificate in sslrootcert"
            )
        );
    }
    // Without a file, the public CAs count.
    for parameters in [
        "sslmode=verify-ca",
        "sslmode=verify-full",
        "sslmode=verify-full&sslrootcert=system",
    ] {
        let (url, shown, _) = of_host("localhost", "only_tls");
        assert!(refusal_of(&with(&url, parameters), &shown).contains("is of an unknown CA"));
    }
}

#[test]
fn a_certificate_for_another_name_is_refused_by_verify_full() {
    let (url, shown, place) = of_host("127.0.0.1", "only_tls");
    let parameters = format!("sslmode=verify-full&{}", certificate("ca.pem"));
    assert_eq!(
        refusal_of(&with(&url, &parameters), &shown),
        format!(
            "the certificate of {place} is for another name; use a name that the certificate has, or sslmode=verify-ca"
        )
    );
}

#[test]
fn a_file_without_a_certificate_is_refused_with_its_name() {
    let url = "postgres://u:s3cret@127.0.0.1/db?sslmode=verify-ca&sslrootcert=";
    let refusal = |path: &str| {
        run_on(&format!("{url}{path}"), ["tenants", "list"])
            .failure()
            .to_owned()
    };
    assert_eq!(
        refusal("/does/not/exist"),
        "--database: sslrootcert: cannot read /does/not/exist: No such file or directory (os error 2)"
    );
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let page = page.display();
    assert_eq!(
        refusal(&page.to_string()),
        format!("--database: sslrootcert: {page} holds no certificate in PEM format")
    );
    assert_eq!(
        run_on(
            "postgres://u:s3cret@h/db?sslmode=always",
            ["tenants", "list"]
        )
        .failure(),
        "--database: sslmode=always is not known; use disable, prefer, require, verify-ca or verify-full"
    );
}
