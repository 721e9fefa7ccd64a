//! What a form did, for the page after it. A word of ours in a cookie, never a sentence of somebody else's.

macro_rules! done {
    ($($(#[$doc:meta])+ $name:ident = $word:literal, $sentence:literal;)+) => {
        /// What the last form did.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Done { $($(#[$doc])+ $name),+ }
        impl Done {
            /// Every one.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];
            /// Its word.
            pub const fn as_str(self) -> &'static str { match self { $(Self::$name => $word),+ } }
            /// What the page says.
            pub(crate) const fn sentence(&self) -> &'static str { match self { $(Self::$name => $sentence),+ } }
        }
    };
}

done! {
    /// A key ended.
    KeyRevoked = "key-revoked", "The key is revoked. What was open under it is cut within two seconds.";
    /// A cluster was released.
    Released = "released", "The cluster is released, and its metering has ended. The receipt follows.";
    /// A GPU was named.
    Named = "named", "The name is set.";
    /// A freeze was made.
    Frozen = "frozen", "It is frozen.";
    /// A freeze was lifted.
    Lifted = "lifted", "The freeze is lifted.";
    /// An incident became something else.
    Noted = "noted", "The incident is noted so.";
    /// A message is tried again.
    SentAgain = "sent-again", "The message is tried again.";
    /// A passkey was added.
    PasskeyAdded = "passkey-added", "The passkey is added.";
    /// A passkey was removed.
    PasskeyRemoved = "passkey-removed", "The passkey is removed. Delete it from your device as well.";
    /// A password was set.
    PasswordSet = "password-set", "The password is set, and your other sessions are ended.";
    /// An account's sessions ended.
    SessionsEnded = "sessions-ended", "The account's sessions are ended. Its keys are not: revoke them where they stand.";
    /// A session ended.
    SessionEnded = "session-ended", "The session is ended.";
    /// An act that takes an approval was asked for.
    Asked = "asked", "Nothing was done yet: this takes an approval, which was asked for. It stands below.";
    /// An act was approved.
    Approved = "approved", "It is approved. Whoever asked for it can do it now, once.";
    /// An act was approved by the only operator.
    ApprovedAlone = "approved-alone", "It is approved. There is no second operator, so it can be done only after the delay.";
    /// An act was declined.
    Declined = "declined", "It is declined.";
}

impl Done {
    /// The one with this word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|done| done.as_str() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_apart_and_nothing_else_is_one() {
        for done in Done::ALL {
            assert_eq!(Done::parse(done.as_str()), Some(*done));
        }
        assert_eq!(Done::parse("<script>"), None);
    }
}
