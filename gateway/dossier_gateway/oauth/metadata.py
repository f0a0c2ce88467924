"""What clients can know of this server: RFC 8414, and OpenID Connect Discovery for those that look there."""

from typing import Any, Final

from dossier_gateway.oauth import assertions, introspection, prompts, revocation
from dossier_gateway.oauth.clients import OPENID
from dossier_gateway.oauth.grants import AuthorizationCodeGrant, ClientCredentialsGrant, Pkce, RefreshTokenGrant
from dossier_gateway.oauth.server import Server
from dossier_gateway.tokens import IDENTITY_ALGORITHM

GRANTS: Final = (AuthorizationCodeGrant, ClientCredentialsGrant, RefreshTokenGrant)
CLAIMS: Final = (
    "iss",
    "sub",
    "aud",
    "exp",
    "iat",
    "auth_time",
    "nonce",
    "at_hash",
    "acr",
    "amr",
    "sid",
    "name",
    "preferred_username",
)


def metadata(server: Server) -> dict[str, Any]:
    """The server's metadata (RFC 8414); the audit log's vkey for whoever verifies it."""
    issuer, vkey = server.issuer, server.audit_log_vkey
    log = {"dossier_audit_log": {"url": f"{issuer}/v1/audit/log", "vkey": vkey}} if vkey else {}
    methods = {
        "token": sorted({method for grant in GRANTS for method in grant.TOKEN_ENDPOINT_AUTH_METHODS}),
        "revocation": sorted(revocation.METHODS),
        "introspection": sorted(introspection.METHODS),
    }
    algorithms = sorted({name for names in assertions.ALGORITHMS.values() for name in names})
    return (
        log
        | {
            "issuer": issuer,
            "authorization_endpoint": f"{issuer}/oauth/authorize",
            "token_endpoint": f"{issuer}/oauth/token",
            "revocation_endpoint": f"{issuer}/oauth/revoke",
            "introspection_endpoint": f"{issuer}/oauth/introspect",
            "end_session_endpoint": f"{issuer}/oauth/logout",
            "jwks_uri": f"{issuer}/oauth/jwks.json",
            "scopes_supported": sorted({*server.scopes_supported, OPENID}),
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": [grant.GRANT_TYPE for grant in GRANTS],
            "code_challenge_methods_supported": Pkce.SUPPORTED_CODE_CHALLENGE_METHOD,
            "authorization_response_iss_parameter_supported": True,
            "ui_locales_supported": ["zh-CN", "en"],
            "service_documentation": f"{issuer}/docs",
        }
        | {f"{endpoint}_endpoint_auth_methods_supported": names for endpoint, names in methods.items()}
        | {f"{endpoint}_endpoint_auth_signing_alg_values_supported": algorithms for endpoint in methods}
    )


def openid_metadata(server: Server) -> dict[str, Any]:
    """The same, with what OpenID Connect Discovery adds."""
    return metadata(server) | {
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [IDENTITY_ALGORITHM],
        "acr_values_supported": [prompts.ONE_FACTOR, prompts.TWO_FACTORS],
        "prompt_values_supported": list(prompts.PROMPTS),
        "claim_types_supported": ["normal"],
        "claims_supported": list(CLAIMS),
        "claims_parameter_supported": False,
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,
    }
