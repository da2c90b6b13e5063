//! The files of `admin.tls` and `admin.jwt`, judged: whether they can serve (R6), and for how long.

use std::time::{Duration, SystemTime};

use reload::{Class, Problem};
use storage::document::Node;

use super::Config;
use super::sections::{JwtSection, TlsSection};
use crate::admin::tls::{self, Age, Part, Tls, TlsError};
use crate::jwt::{KeyError, Verifier};

/// A certificate that ends within this time is spoken of at each start, check and reload.
const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);

const CERTIFICATE: &str = "admin.tls.certificate";

const CLIENT_CA: &str = "admin.tls.client_ca";

/// The nodes of the three files.
pub(super) struct Files<'a, 'b> {
    /// `certificate`.
    pub(super) certificate: &'a Node<'b>,
    /// `private_key`.
    pub(super) private_key: &'a Node<'b>,
    /// `client_ca`.
    pub(super) client_ca: &'a Node<'b>,
}

/// Refuses files that no handshake could be made with. How old the certificate is depends on the day: see [`out_of_date`].
pub(super) fn judge_tls(section: &TlsSection, files: &Files<'_, '_>) {
    match Tls::new(section) {
        Ok(_) => {}
        Err(TlsError::File { part, cause, remedy }) => {
            let node = match part {
                Part::Certificate => files.certificate,
                Part::PrivateKey => files.private_key,
                Part::ClientCa => files.client_ca,
            };
            node.refuse(format!("the file {} {cause}", node.shown_file()), remedy);
        }
        Err(TlsError::Mismatch) => files.private_key.refuse(
            format!(
                "the file {} is not the key of the certificate in {}",
                files.private_key.shown_file(),
                files.certificate.shown_file()
            ),
            "put the two files of one pair in place, both, and reload once",
        ),
    }
}

/// Refuses a public key that is none of the algorithm's.
pub(super) fn judge_key(section: &JwtSection, node: &Node<'_>) {
    if let Err(error @ (KeyError::Kind { .. } | KeyError::Short { .. })) = Verifier::new(section) {
        node.refuse(
            format!("the file {} {error}", node.shown_file()),
            "name the public key whose private half signs the tokens, in PEM",
        );
    }
}

/// What is wrong with the certificates on this day. One that runs already is no reason to refuse another change: nothing gets worse by
/// it, and `/readyz` tells.
pub(super) fn out_of_date(config: &Config, current: Option<&Config>) -> Vec<Problem> {
    let Some(section) = &config.admin.tls else { return Vec::new() };
    if current.and_then(|current| current.admin.tls.as_ref()).is_some_and(|runs| runs == section) {
        return Vec::new();
    }
    outdated(section).into_iter().chain(lapsed(section)).collect()
}

/// During a change of authorities both stand in the file: one that counts is enough.
fn lapsed(section: &TlsSection) -> Option<Problem> {
    let (file, now) = (section.client_ca.as_ref()?.path.display(), SystemTime::now());
    let authorities = tls::authorities_of(section);
    if authorities.is_empty() || authorities.iter().any(|validity| matches!(validity.at(now), Age::Valid(_)))
    {
        return None;
    }
    let message = format!("no authority in {file} is valid today: nobody's certificate would count");
    Some(Problem::at(CLIENT_CA, message).hint("put the authority's new certificate in place, and reload"))
}

fn outdated(section: &TlsSection) -> Option<Problem> {
    let file = section.certificate.path.display();
    let validity = tls::validity_of(section)?;
    let (message, hint) = match validity.at(SystemTime::now()) {
        Age::Valid(_) => return None,
        Age::Expired => (
            format!("the certificate in {file} has expired on {}", validity.end()),
            "put a new certificate and its key in place, and reload",
        ),
        Age::TooYoung => (
            format!("the certificate in {file} is not valid before {}", validity.begin()),
            "wait until then, or look at this machine's clock (`timedatectl`)",
        ),
    };
    Some(Problem::at(CERTIFICATE, message).hint(hint))
}

/// What an operator should know of certificates in time.
pub(super) fn ending(config: &Config) -> Option<Problem> {
    let section = config.admin.tls.as_ref()?;
    let validity = tls::validity_of(section)?;
    let file = section.certificate.path.display();
    let message = match validity.at(SystemTime::now()) {
        Age::Valid(left) if left > SOON => return None,
        Age::Valid(left) => {
            let days = left.as_secs() / (24 * 60 * 60);
            format!("the certificate in {file} expires on {}, {days} days from now", validity.end())
        }
        // Refused where it is new; this one runs already.
        Age::Expired => format!("the certificate in {file} has expired on {}", validity.end()),
        Age::TooYoung => format!("the certificate in {file} is not valid before {}", validity.begin()),
    };
    let problem = Problem { path: Some(CERTIFICATE.to_owned()), ..Problem::new(Class::Validation, message) };
    let mut found =
        [problem.hint("put a new certificate and its key in place, and reload: nothing is interrupted")];
    config.locate(&mut found);
    let [problem] = found;
    Some(problem)
}
