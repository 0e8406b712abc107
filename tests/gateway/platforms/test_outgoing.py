"""Which proxy leads to a platform's API."""

from pathlib import Path

import pytest
from parley_gateway.platforms.outgoing import choose_proxy, create_transport

API = "https://api.example.com"
PROXY = "http://environment:3128"


@pytest.mark.parametrize(
    ("base_url", "proxy", "environ", "chosen"),
    [
        (API, "", {}, None),
        (API, "", {"HTTPS_PROXY": PROXY}, PROXY),
        (API, "", {"https_proxy": PROXY}, PROXY),
        (API, "", {"HTTP_PROXY": PROXY}, None),
        ("http://simulator:8080", "", {"http_proxy": PROXY}, PROXY),
        (API, "http://setting:3128", {"HTTPS_PROXY": PROXY}, "http://setting:3128"),
        (API, "http://setting:3128", {"NO_PROXY": "*"}, "http://setting:3128"),
        (API, "", {"HTTPS_PROXY": PROXY, "NO_PROXY": "example.com"}, None),
        (API, "", {"HTTPS_PROXY": PROXY, "no_proxy": "other.org, .example.com"}, None),
        (API, "", {"HTTPS_PROXY": PROXY, "NO_PROXY": "*"}, None),
        (API, "", {"HTTPS_PROXY": PROXY, "NO_PROXY": "ample.com"}, PROXY),
        ("http://127.0.0.1:8080", "", {"HTTP_PROXY": PROXY}, None),
        ("http://localhost:8080", "http://setting:3128", {}, None),
        ("http://[::1]:8080", "http://setting:3128", {}, None),
        ("http://127.0.0.1.example.com", "", {"HTTP_PROXY": PROXY}, PROXY),
    ],
)
def test_proxy(base_url: str, proxy: str, environ: dict[str, str], chosen: str | None) -> None:
    assert choose_proxy(base_url, proxy, environ) == chosen


def test_file_without_certificates_is_refused(tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    ca_file.write_text("not a certificate")
    with pytest.raises(OSError, match="PEM"):
        create_transport(API, proxy="", ca_file=ca_file, environ={})
