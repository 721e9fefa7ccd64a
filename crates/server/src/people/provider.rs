//! The identity provider this server was told to believe: discovered at start, asked again when it signs with
//! a key it had not published, and never believed further than its signature, issuer and audience go.

use std::{
    path::Path,
    sync::{Arc, RwLock},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use gangline_guard::{
    Refusal,
    quota::{Bucket, Quota},
};
use gangline_types::{UnixMillis, UnixSeconds};
use openidconnect::{
    AccessToken, AccessTokenHash, AdditionalProviderMetadata, AuthType, AuthenticationContextClass,
    AuthenticationFlow, AuthorizationCode, ClaimsVerificationError, ClientId, ClientSecret, CsrfToken,
    EndpointMaybeSet, EndpointNotSet, EndpointSet, IssuerUrl, LogoutRequest, Nonce, OAuth2TokenResponse,
    PkceCodeChallenge, PkceCodeVerifier, PostLogoutRedirectUrl, ProviderMetadata, RedirectUrl,
    RequestTokenError, Scope, SignatureVerificationError, TokenResponse,
    core::{
        CoreAuthDisplay, CoreAuthPrompt, CoreClaimName, CoreClaimType, CoreClient, CoreClientAuthMethod,
        CoreGrantType, CoreIdToken, CoreJsonWebKey, CoreJsonWebKeySet, CoreJweContentEncryptionAlgorithm,
        CoreJweKeyManagementAlgorithm, CoreJwsSigningAlgorithm, CoreResponseMode, CoreResponseType,
        CoreSubjectIdentifierType,
    },
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use super::{
    LogoutToken, Mapped, PeopleError, Transaction, claims,
    logout::{self, Expected, LogoutError},
    unbelievable,
};
use crate::{
    config::{self, Oidc},
    edge,
    outbound::{self, Outbound, OutboundError},
    outlets, secrets,
};

/// Signature algorithms that are believed: all are of key pairs. Not `none`; and not HS256 and its like, whose
/// key would be a password that this server holds too.
const ALGORITHMS: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];
/// How old an ID token may be that was asked for just now, in seconds.
const ID_TOKEN_AGE_SECONDS_MAX: u64 = 600;
/// How far our clock and the provider's may be apart, in seconds.
const SKEW_SECONDS: u64 = 120;
/// How often the provider's documents may be fetched for sign-ins, whose tokens come from the provider itself.
const REFRESH_FOR_SIGN_INS: Quota = Quota { burst: 10, per_minute: 10 };
/// And for logout messages, which anybody can send: apart, so that a flood of them keeps nobody out.
const REFRESH_FOR_LOGOUTS: Quota = Quota { burst: 3, per_minute: 3 };
/// How often they are fetched anyway, in seconds, so that a key that was withdrawn is not believed for long.
const REFRESH_SECONDS: u64 = 3600;
/// How long a failure is told again without asking, in milliseconds: whoever waited for it need not wait anew.
const AWAY_MILLIS: u64 = 2000;

/// What the provider says of itself beyond the core.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct More {
    end_session_endpoint: Option<url::Url>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}
impl AdditionalProviderMetadata for More {}

type Metadata = ProviderMetadata<
    More,
    CoreAuthDisplay,
    CoreClientAuthMethod,
    CoreClaimName,
    CoreClaimType,
    CoreGrantType,
    CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm,
    CoreJsonWebKey,
    CoreResponseMode,
    CoreResponseType,
    CoreSubjectIdentifierType,
>;
type Client = CoreClient<
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// Least bits of a provider's RSA key (RFC 7518, section 3.3).
const RSA_BITS_MIN: u32 = 2048;

/// Whether what a key signs may be believed. Keys other than RSA's are as strong as their kind.
fn is_strong(key: &CoreJsonWebKey) -> bool {
    let Ok(parts) = serde_json::to_value(key) else { return false };
    if parts["kty"] != "RSA" {
        return true;
    }
    let modulus = parts["n"]
        .as_str()
        .and_then(|n| URL_SAFE_NO_PAD.decode(n.trim_end_matches('=')).ok())
        .unwrap_or_default();
    let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
    let bits =
        modulus[zeros..].first().map_or(0, |top| (modulus.len() - zeros) as u32 * 8 - top.leading_zeros());
    bits >= RSA_BITS_MIN
}

/// What was discovered.
struct Known {
    metadata: Metadata,
    client: Client,
    /// Counts discoveries: who waited for one need not make another.
    number: u64,
}

/// Who asks for the documents anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum For {
    SignIns,
    Logouts,
}

/// Times of discoveries that asked more than was wanted.
struct Asked {
    for_sign_ins: Bucket,
    for_logouts: Bucket,
    failed_at: UnixMillis,
}

/// The identity provider.
pub struct Provider {
    settings: Oidc,
    issuer: IssuerUrl,
    name: String,
    secret: Option<ClientSecret>,
    outbound: Outbound,
    redirect: RedirectUrl,
    after_logout: PostLogoutRedirectUrl,
    seal: [u8; 32],
    known: RwLock<Option<Arc<Known>>>,
    asked: tokio::sync::Mutex<Asked>,
}

/// Somebody whom the provider has signed in.
#[derive(Debug)]
pub struct SignedIn {
    /// The claim `sub`.
    pub subject: String,
    /// The claim `sid`, if there is one.
    pub session: Option<String>,
    /// Whether the provider signed that they showed two factors: by an `acr` that the operator has named, or by `mfa`
    /// among the methods in `amr` (RFC 8176). What it does not say is not assumed.
    pub is_strong: bool,
    /// What the claims make of them, or why they may not come in.
    pub mapped: Result<Mapped, Refusal>,
    /// The ID token, for their own browser to show when it signs out there. It is no credential here.
    pub id_token: String,
}

/// What the browser brings back.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The code.
    pub code: &'a str,
    /// Who says they sent it (RFC 9207).
    pub issuer: Option<&'a str>,
}

/// The client's secret, from a file that only this user can read.
fn read_secret(file: &Path) -> Result<ClientSecret, String> {
    let secret = secrets::read_line(file).map_err(|error| outlets::chain(&error))?;
    Ok(ClientSecret::new(secret.trim().to_owned()))
}

impl Provider {
    /// The provider of these settings; nothing is asked yet. `origin` is this server's, `seed` its key's.
    ///
    /// The operator has named the issuer, so its host may be of a private network; what its documents name
    /// beside may not.
    ///
    /// # Errors
    /// What is wrong with the settings, in a sentence.
    pub fn new(
        settings: &Oidc,
        asking: &config::Outbound,
        origin: &str,
        seed: &[u8; 32],
    ) -> Result<Self, String> {
        let url = url::Url::parse(&settings.issuer)
            .map_err(|e| format!("the issuer {} is not an address: {e}", settings.issuer))?;
        let mut exceptions = asking.exceptions.clone();
        if url.scheme() == "http" && outbound::is_loopback(&url) {
            exceptions = exceptions.and_networks(outbound::THIS_MACHINE).map_err(|e| e.to_string())?;
        } else if let Some(host) = url.host_str() {
            exceptions = exceptions.and_host(host);
        }
        let outbound = Outbound::new(exceptions, asking.ca_file.as_deref()).map_err(|e| {
            let cause = std::error::Error::source(&e).map(|c| format!(": {c}")).unwrap_or_default();
            format!("the identity provider cannot be asked: {e}{cause}")
        })?;
        let is_plain = url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if !outbound.may_ask(&url) || !is_plain {
            return Err(format!(
                "the issuer {url} cannot be believed: it must be https://…, or http://… on this machine alone, with no user, query or fragment"
            ));
        }
        if settings.role_map.is_empty() {
            return Err("nobody could sign in: oidc_role_map maps no role".into());
        }
        if settings.org_claim.is_some() == settings.orgs.is_empty() {
            return Err(
                "oidc_org_claim and oidc_orgs belong together: which claim, and which of its values".into()
            );
        }
        let unusable = |e: url::ParseError| format!("{origin} or {url} is not an address: {e}");
        Ok(Self {
            // As it was given, with or without a slash at the end: tokens are compared with it.
            issuer: IssuerUrl::new(settings.issuer.clone()).map_err(unusable)?,
            name: outbound::host(&url),
            secret: settings.client_secret_file.as_deref().map(read_secret).transpose()?,
            outbound,
            redirect: RedirectUrl::new(format!("{origin}/signin/callback")).map_err(unusable)?,
            after_logout: PostLogoutRedirectUrl::new(format!("{origin}/signin")).map_err(unusable)?,
            seal: blake3::derive_key("gangline 2026 sign-in transaction", seed),
            settings: settings.clone(),
            known: RwLock::default(),
            asked: tokio::sync::Mutex::new(Asked {
                for_sign_ins: Bucket::full(REFRESH_FOR_SIGN_INS, edge::now_millis()),
                for_logouts: Bucket::full(REFRESH_FOR_LOGOUTS, edge::now_millis()),
                failed_at: UnixMillis(0),
            }),
        })
    }

    /// Its host, for people.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// Its issuer, as it must stand in tokens.
    pub fn issuer(&self) -> &str {
        self.issuer.as_str()
    }
    /// The key that seals sign-ins.
    pub fn seal_key(&self) -> [u8; 32] {
        self.seal
    }

    fn away(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> PeopleError {
        PeopleError::Away { provider: self.name.clone(), source: source.into() }
    }

    fn remembered(&self) -> Option<Arc<Known>> {
        self.known.read().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// What was discovered, or is now.
    async fn known(&self) -> Result<Arc<Known>, PeopleError> {
        match self.remembered() {
            Some(known) => Ok(known),
            None => self.discover(0, For::SignIns).await,
        }
    }

    /// Asks for the provider's documents, unless somebody else has since discovery `seen`.
    async fn discover(&self, seen: u64, whom: For) -> Result<Arc<Known>, PeopleError> {
        let mut asked = self.asked.lock().await;
        if let Some(known) = self.remembered().filter(|k| k.number > seen) {
            return Ok(known);
        }
        let now = edge::now_millis();
        if now.0.saturating_sub(asked.failed_at.0) < AWAY_MILLIS {
            return Err(self.away(OutboundError::TooOften { seconds: AWAY_MILLIS.div_ceil(1000) }));
        }
        let taken = match whom {
            For::SignIns => asked.for_sign_ins.take(REFRESH_FOR_SIGN_INS, now),
            For::Logouts => asked.for_logouts.take(REFRESH_FOR_LOGOUTS, now),
        };
        taken.map_err(|seconds| self.away(OutboundError::TooOften { seconds }))?;
        let discovered = self.ask(seen + 1).await;
        match &discovered {
            Ok(known) => *self.known.write().unwrap_or_else(|e| e.into_inner()) = Some(known.clone()),
            Err(_) => asked.failed_at = edge::now_millis(),
        }
        discovered
    }

    async fn ask(&self, number: u64) -> Result<Arc<Known>, PeopleError> {
        let metadata =
            Metadata::discover_async(self.issuer.clone(), &self.outbound).await.map_err(|e| match e {
                // The request's own error says it all; the others hold the whole answer, which is not for a log.
                openidconnect::DiscoveryError::Request(e) => self.away(e),
                openidconnect::DiscoveryError::Response(status, ..) => {
                    self.away(OutboundError::Answer(format!("status {status}")))
                }
                other => self.away(OutboundError::Answer(crate::refusals::inert(&other.to_string()))),
            })?;
        let strong: Vec<_> = metadata.jwks().keys().iter().filter(|key| is_strong(key)).cloned().collect();
        let weak = metadata.jwks().keys().len() - strong.len();
        if weak > 0 {
            tracing::warn!(
                provider = self.name,
                keys = weak,
                "keys of less than {RSA_BITS_MIN} bits are not believed"
            );
        }
        let metadata = metadata.set_jwks(CoreJsonWebKeySet::new(strong));
        Ok(Arc::new(self.understood(metadata, number)?))
    }

    fn understood(&self, metadata: Metadata, number: u64) -> Result<Known, PeopleError> {
        let token = metadata.token_endpoint().map(|u| u.url());
        let userinfo = metadata.userinfo_endpoint().map(|u| u.url());
        let end = metadata.additional_metadata().end_session_endpoint.as_ref();
        let asked = [Some(metadata.authorization_endpoint().url()), token, userinfo, end];
        if let Some(other) = asked.into_iter().flatten().find(|url| !self.outbound.may_ask(url)) {
            return Err(self.away(OutboundError::Address(crate::refusals::inert(other.as_str()))));
        }
        if token.is_none() {
            return Err(self.away(OutboundError::Answer("it has no token endpoint".into())));
        }
        let takes = |method| {
            metadata.token_endpoint_auth_methods_supported().is_some_and(|all| all.contains(&method))
        };
        // Where nothing is said, the standard means client_secret_basic.
        let in_body =
            takes(CoreClientAuthMethod::ClientSecretPost) && !takes(CoreClientAuthMethod::ClientSecretBasic);
        let client = CoreClient::from_provider_metadata(
            metadata.clone(),
            ClientId::new(self.settings.client_id.clone()),
            self.secret.clone(),
        )
        .set_redirect_uri(self.redirect.clone())
        .set_auth_type(if in_body { AuthType::RequestBody } else { AuthType::BasicAuth });
        Ok(Known { metadata, client, number })
    }

    /// Discovers the provider at start and every hour, until `stop`. While it is away, others of this server's
    /// ways to sign in work.
    pub async fn keep_known(self: Arc<Self>, stop: CancellationToken) {
        let mut wait = 1;
        loop {
            let seen = self.remembered().map_or(0, |known| known.number);
            let seconds = match self.discover(seen, For::SignIns).await {
                Ok(_) => {
                    if seen == 0 {
                        tracing::info!(provider = self.name, "people sign in through this identity provider");
                    }
                    wait = 1;
                    REFRESH_SECONDS
                }
                Err(error) => {
                    wait = u64::min(wait * 2, 60);
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        retry_seconds = wait,
                        "people cannot sign in through it; one-time links work"
                    );
                    wait
                }
            };
            tokio::select! {
                _ = stop.cancelled() => return,
                _ = tokio::time::sleep(Duration::from_secs(seconds)) => {}
            }
        }
    }

    /// Where the browser goes to sign in.
    ///
    /// # Errors
    /// When the provider is away.
    pub async fn start(&self, transaction: &Transaction) -> Result<url::Url, PeopleError> {
        let known = self.known().await?;
        let (state, nonce) = (transaction.state(), transaction.nonce());
        let verifier = PkceCodeVerifier::new(transaction.verifier());
        let mut asked = known
            .client
            .authorize_url(
                AuthenticationFlow::<CoreResponseType>::AuthorizationCode,
                move || CsrfToken::new(state),
                move || Nonce::new(nonce),
            )
            // `openid` is always asked for.
            .add_scopes(self.settings.scopes.iter().filter(|s| *s != "openid").cloned().map(Scope::new))
            .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier));
        for acr in &self.settings.acr {
            asked = asked.add_auth_context_value(AuthenticationContextClass::new(acr.clone()));
        }
        if transaction.again() {
            asked = asked.add_prompt(CoreAuthPrompt::Login).set_max_age(std::time::Duration::ZERO);
        }
        Ok(asked.url().0)
    }

    /// Turns the code that the browser brought back into what the provider says of its owner.
    ///
    /// # Errors
    /// When the provider is away, says no, or says what cannot be believed.
    pub async fn finish(
        &self,
        transaction: &Transaction,
        answer: Answer<'_>,
        now: UnixSeconds,
    ) -> Result<SignedIn, PeopleError> {
        let known = self.known().await?;
        let says_so = known.metadata.additional_metadata().authorization_response_iss_parameter_supported;
        match answer.issuer {
            Some(issuer) if issuer != self.issuer.as_str() => {
                return Err(unbelievable("another provider sent it"));
            }
            None if says_so => return Err(unbelievable("it does not say which provider sent it")),
            _ => {}
        }
        let tokens = known
            .client
            .exchange_code(AuthorizationCode::new(answer.code.to_owned()))
            .map_err(|e| self.away(OutboundError::Answer(e.to_string())))?
            .set_pkce_verifier(PkceCodeVerifier::new(transaction.verifier()))
            .request_async(&self.outbound)
            .await
            .map_err(|e| match e {
                RequestTokenError::Request(e) => self.away(e),
                RequestTokenError::ServerResponse(no) => {
                    tracing::warn!(provider = self.name, error = %no.error(), "the provider did not take a code");
                    unbelievable(format!("the provider did not take its code ({})", no.error()))
                }
                RequestTokenError::Parse(..) | RequestTokenError::Other(_) => unbelievable("it is no answer with tokens"),
            })?;
        let id_token = tokens.id_token().ok_or_else(|| unbelievable("it holds no ID token"))?;
        let nonce = Nonce::new(transaction.nonce());
        let known = match self.verify(&known, id_token, tokens.access_token(), &nonce, now) {
            Err(Unverified::UnknownKey) => {
                let known = self.discover(known.number, For::SignIns).await?;
                self.verify(&known, id_token, tokens.access_token(), &nonce, now)?;
                known
            }
            other => {
                other?;
                known
            }
        };
        let text = id_token.to_string();
        // The very bytes that were verified.
        let mut claims = payload(&text).ok_or_else(|| unbelievable("its claims are not an object"))?;
        let word = |name: &str| claims.get(name).and_then(Value::as_str).map(str::to_owned);
        let subject = word("sub").filter(|s| !s.is_empty()).ok_or_else(|| unbelievable("it names nobody"))?;
        if !self.settings.acr.is_empty() {
            // What was asked for as a wish has to come: a provider may sign somebody in without it.
            let acr = claims.get("acr").and_then(Value::as_str);
            if !acr.is_some_and(|acr| self.settings.acr.iter().any(|wanted| wanted == acr)) {
                return Err(unbelievable("the sign-in was not as strong as this network asks for"));
            }
        }
        if transaction.again() {
            // A provider that signs somebody in without asking has not shown that it is still them.
            let asked_at = claims.get("auth_time").and_then(Value::as_u64).unwrap_or_default();
            if asked_at + SKEW_SECONDS < transaction.began_at().0 {
                return Err(unbelievable("the provider did not ask for the sign-in anew"));
            }
        }
        let methods = claims.get("amr").and_then(Value::as_array);
        let is_strong = !self.settings.acr.is_empty()
            || methods.is_some_and(|methods| methods.iter().any(|method| method == "mfa"));
        let session = word("sid").filter(|s| !s.is_empty());
        if !claims::is_enough(&claims, &self.settings) {
            for (name, value) in self.user_info(&known, tokens.access_token(), &subject).await? {
                claims.entry(name).or_insert(value);
            }
        }
        let mapped = claims::map(&claims, &self.settings);
        Ok(SignedIn { subject, session, is_strong, mapped, id_token: text })
    }

    fn verify(
        &self,
        known: &Known,
        token: &CoreIdToken,
        access: &AccessToken,
        nonce: &Nonce,
        now: UnixSeconds,
    ) -> Result<(), Unverified> {
        let verifier =
            known.client.id_token_verifier().set_allowed_algs(ALGORITHMS).set_issue_time_verifier_fn(|at| {
                let at = at.timestamp();
                let (now, skew) = (now.0 as i64, SKEW_SECONDS as i64);
                if at > now + skew || at < now - ID_TOKEN_AGE_SECONDS_MAX as i64 {
                    return Err("it was not made just now".into());
                }
                Ok(())
            });
        let claims = token.claims(&verifier, nonce).map_err(|e| match e {
            ClaimsVerificationError::SignatureVerification(SignatureVerificationError::NoMatchingKey) => {
                Unverified::UnknownKey
            }
            ClaimsVerificationError::SignatureVerification(cause) => Unverified::Bad(cause.to_string()),
            other => Unverified::Bad(other.to_string()),
        })?;
        // The library leaves `azp` to us: whom the token was made for, where that is said.
        if claims.authorized_party().is_some_and(|party| party.as_str() != self.settings.client_id) {
            return Err(Unverified::Bad("it was made for another client".into()));
        }
        if let Some(expected) = claims.access_token_hash() {
            let bad = |_| Unverified::Bad("its access token's hash cannot be checked".into());
            let alg = token.signing_alg().map_err(bad)?;
            let key = token.signing_key(&verifier).map_err(bad)?;
            let found = AccessTokenHash::from_token(access, alg, key)
                .map_err(|_| Unverified::Bad("its access token's hash cannot be checked".into()))?;
            if found != *expected {
                return Err(Unverified::Bad("its access token is another one".into()));
            }
        }
        Ok(())
    }

    /// What the provider's user info says of `subject`: asked once, for claims that the ID token lacks.
    async fn user_info(
        &self,
        known: &Known,
        access: &AccessToken,
        subject: &str,
    ) -> Result<Map<String, Value>, PeopleError> {
        let Some(endpoint) = known.metadata.userinfo_endpoint() else { return Ok(Map::new()) };
        let request = http::Request::builder()
            .uri(endpoint.as_str())
            .header(http::header::ACCEPT, "application/json")
            .header(http::header::AUTHORIZATION, format!("Bearer {}", access.secret()))
            .body(Vec::new())
            .map_err(|_| unbelievable("its access token is not one"))?;
        let answer = self.outbound.ask(request).await.map_err(|e| self.away(e))?;
        let status = answer.status();
        if !status.is_success() {
            return Err(self.away(OutboundError::Answer(format!("status {status} for the user info"))));
        }
        let claims: Map<String, Value> = serde_json::from_slice(answer.body())
            .map_err(|_| self.away(OutboundError::Answer("the user info is no JSON object".into())))?;
        if claims.get("sub").and_then(Value::as_str) != Some(subject) {
            return Err(unbelievable("its user info is about somebody else"));
        }
        Ok(claims)
    }

    /// Where the browser goes to sign out there too, if the provider has such a place and was ever reached.
    pub fn sign_out(&self, id_token: Option<&str>) -> Option<url::Url> {
        let known = self.remembered()?;
        let endpoint = known.metadata.additional_metadata().end_session_endpoint.clone()?;
        let request = LogoutRequest::from(openidconnect::EndSessionUrl::from_url(endpoint))
            .set_client_id(ClientId::new(self.settings.client_id.clone()))
            .set_post_logout_redirect_uri(self.after_logout.clone());
        let mut url = request.http_get_url();
        if let Some(token) = id_token {
            url.query_pairs_mut().append_pair("id_token_hint", token);
        }
        Some(url)
    }

    /// Checks the provider's message that somebody has signed out there.
    ///
    /// # Errors
    /// When it cannot be believed, or its key cannot be asked for.
    pub async fn logout(&self, token: &str, now: UnixSeconds) -> Result<LogoutToken, PeopleError> {
        let check = |known: &Known| {
            let expected = Expected {
                issuer: self.issuer.as_str(),
                client: &self.settings.client_id,
                keys: known.metadata.jwks(),
                algorithms: &ALGORITHMS,
            };
            logout::check(token, expected, now)
        };
        let known = match self.remembered() {
            Some(known) => known,
            None => self.discover(0, For::Logouts).await?,
        };
        let checked = match check(&known) {
            Err(LogoutError::UnknownKey) => check(&*self.discover(known.number, For::Logouts).await?),
            other => other,
        };
        checked.map_err(unbelievable)
    }
}

/// Why an ID token was not taken.
enum Unverified {
    UnknownKey,
    Bad(String),
}

impl From<Unverified> for PeopleError {
    fn from(e: Unverified) -> Self {
        match e {
            Unverified::UnknownKey => {
                unbelievable("it is signed with a key that the provider does not publish")
            }
            Unverified::Bad(cause) => unbelievable(cause),
        }
    }
}

/// The claims of a token whose signature was checked.
fn payload(token: &str) -> Option<Map<String, Value>> {
    let part = token.split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_key_is_not_believed_however_it_is_written() {
        let rsa = |bytes: &[u8]| {
            let n = URL_SAFE_NO_PAD.encode(bytes);
            is_strong(
                &serde_json::from_value(serde_json::json!({"kty": "RSA", "n": n, "e": "AQAB"})).unwrap(),
            )
        };
        let key = |bytes: usize, top: u8| [vec![top], vec![0xff; bytes - 1]].concat();
        assert!(rsa(&key(256, 0x80)) && rsa(&key(384, 1)) && rsa(&key(257, 0)));
        assert!(
            !rsa(&key(128, 0xff))
                && !rsa(&key(256, 0x7f))
                && !rsa(&[vec![0; 200], key(128, 0xff)].concat())
                && !rsa(&[])
        );
        let other = serde_json::json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode([7; 32])});
        assert!(is_strong(&serde_json::from_value(other).unwrap()));
    }
}
