//! What surrounds every page: theme, navigation, who is signed in. It knows no cookie and no session,
//! only what the server found in them.

use askama::Template;

/// Colours, from the `theme` cookie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Theme {
    /// As the visitor's system prefers.
    #[default]
    Auto,
    /// Dark.
    Dark,
    /// Light.
    Light,
}

impl Theme {
    /// `auto`, `dark` or `light`: the value of the cookie and of the form field `theme`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Dark => "dark",
            Self::Light => "light",
        }
    }
    /// The theme of a cookie's or field's value; anything unknown is `Auto`.
    pub fn parse(value: &str) -> Self {
        match value {
            "dark" => Self::Dark,
            "light" => Self::Light,
            _ => Self::Auto,
        }
    }
    /// The one the theme button switches to.
    pub fn next(self) -> Self {
        match self {
            Self::Auto => Self::Dark,
            Self::Dark => Self::Light,
            Self::Light => Self::Auto,
        }
    }
}

/// What somebody who is signed in may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Runs the network.
    Operator,
    /// Brings machines.
    Supplier,
    /// Hires GPUs.
    Renter,
}

impl Role {
    /// The word used everywhere, also in forms: `operator`, `supplier`, `renter`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Supplier => "supplier",
            Self::Renter => "renter",
        }
    }
}

/// What surrounds a page.
#[derive(Clone, Debug, Default)]
pub struct Chrome {
    /// Colours to draw in.
    pub theme: Theme,
    /// This page's own path with its query, for example `/?q=RTX`. The server checks on its way back
    /// (`POST /theme`, field `back`) that it is a path of this site.
    pub path: String,
    /// Role of the account that is signed in, if any.
    pub role: Option<Role>,
    /// Token that every POST form carries in its hidden field `csrf`, if there is one.
    pub csrf: Option<String>,
    /// Name of the identity provider through which people can sign in, if there is one.
    pub provider: Option<String>,
    /// Origin at which passkeys work; `None` where browsers have none.
    pub passkeys_at: Option<String>,
    /// Whether people sign in with passwords here.
    pub passwords: bool,
    /// A sentence at the top of every page that says what is simulated, in a demonstration.
    pub banner: Option<String>,
    /// What the last form did, told once above the page.
    pub done: Option<crate::Done>,
}

impl Chrome {
    /// Whether the page lies under this entry of the navigation.
    pub(crate) fn under(&self, entry: &str) -> bool {
        let path = self.path.split('?').next().unwrap_or_default();
        match entry {
            "/" => path == "/" || path.starts_with("/gpu/"),
            _ => path == entry || path.strip_prefix(entry).is_some_and(|rest| rest.starts_with('/')),
        }
    }
    /// The role's word, or nothing.
    pub(crate) fn role_word(&self) -> &'static str {
        self.role.map_or("", Role::as_str)
    }
    /// The hidden field of a POST form.
    pub(crate) fn csrf_field(&self) -> askama::filters::Safe<CsrfField<'_>> {
        askama::filters::Safe(CsrfField(self.csrf.as_deref()))
    }
}

/// `<input type="hidden" name="csrf">`, or nothing where there is no token.
pub(crate) struct CsrfField<'a>(Option<&'a str>);

impl std::fmt::Display for CsrfField<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use askama::filters::Escaper;
        let Some(token) = self.0 else { return Ok(()) };
        f.write_str(r#"<input type="hidden" name="csrf" value=""#)?;
        crate::inert::Inert.write_escaped_str(&mut *f, token)?;
        f.write_str(r#"">"#)
    }
}

/// Draws a template; all of ours only write into memory.
pub(crate) fn draw(page: impl Template) -> String {
    page.render().expect("templates only fail when writing does, and writing into a String cannot")
}
