//! TLS to the server: how its certificate is verified, as `sslmode` and `sslrootcert` say.

use std::fs;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

/// How the server's certificate is verified, as `sslmode` of libpq names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// Not at all (`prefer`, `require` without a CA).
    Any,
    /// The chain, and not the name (`verify-ca`, `require` with a CA).
    Chain,
    /// The chain and the name (`verify-full`).
    Name,
}

/// The configuration of TLS for the CAs in a file, or for the public ones.
///
/// # Errors
/// A sentence for the operator.
pub(super) fn config(trust: Trust, roots: Option<&str>) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let chain = match trust {
        Trust::Any => None,
        Trust::Name => {
            let roots = trusted(roots)?;
            return Ok(builder.with_root_certificates(roots).with_no_client_auth());
        }
        Trust::Chain => {
            let (roots, provider) = (Arc::new(trusted(roots)?), Arc::clone(&provider));
            let chain = WebPkiServerVerifier::builder_with_provider(roots, provider).build();
            Some(chain.map_err(|error| error.to_string())?)
        }
    };
    Ok(builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Lenient { provider, chain }))
        .with_no_client_auth())
}

/// The CAs in a file, or the public ones.
fn trusted(file: Option<&str>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let Some(path) = file.filter(|file| *file != "system") else {
        let public = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter();
        roots.add_parsable_certificates(public.cloned());
        return Ok(roots);
    };
    let pem =
        fs::read(path).map_err(|error| format!("sslrootcert: cannot read {path}: {error}"))?;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| format!("sslrootcert: {path}: {error:?}"))?;
        roots
            .add(certificate)
            .map_err(|error| format!("sslrootcert: {path}: {error}"))?;
    }
    match roots.is_empty() {
        true => Err(format!(
            "sslrootcert: {path} holds no certificate in PEM format"
        )),
        false => Ok(roots),
    }
}

/// Verifies less than the whole certificate. The traffic is encrypted all the same.
#[derive(Debug)]
struct Lenient {
    provider: Arc<CryptoProvider>,
    /// Verifies the chain. None: every certificate is accepted.
    chain: Option<Arc<WebPkiServerVerifier>>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(chain) = &self.chain else {
            return Ok(ServerCertVerified::assertion());
        };
        match chain.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            // The chain was verified before the name.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            outcome => outcome,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
