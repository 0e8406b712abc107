"""Known requests and replies of WeChat's encryption.

W1 to W4 are the samples of WeChat's own documentation ("Access guide", "Message encryption and decryption"). K, W6a,
W6b and W9 were computed with one key set and a fixed random prefix, and agree between wechatpy and an independent
implementation.
"""

from dataclasses import dataclass

OFFICIAL_TOKEN = "AAAAA"
OFFICIAL_KEY = "A" * 43
OFFICIAL_APP_ID = "wxba5fad812f8e6fb9"

TOKEN = "im-gateway-test-token"
AES_KEY = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
APP_ID = "wx0123456789abcdef"
PREFIX = "0123456789abcdef"
NONCE = "1320562132"


@dataclass(frozen=True)
class Vector:
    """One encrypted message."""

    timestamp: str
    nonce: str
    signature: str
    encrypted: str
    plaintext: str


W3 = Vector(
    "1714112445",
    "415670741",
    "046e02f8204d34f8ba5fa3b1db94908f3df2e9b3",
    "+qdx1OKCy+5JPCBFWw70tm0fJGb2Jmeia4FCB7kao+/Q5c/ohsOzQHi8khUOb05JCpj0JB4RvQMkUyus8TPxLKJGQqcvZqzDpVzazhZv6JsXUnnR8XGT"
    "740XgXZUXQ7vJVnAG+tE8NUd4yFyjPy7GgiaviNrlCTj+l5kdfMuFUPpRSrfMZuMcp3Fn2Pede2IuQrKEYwKSqFIZoNqJ4M8EajAsjLY2km32IIjdf8Y"
    "L/P50F7mStwntrA2cPDrM1kb6mOcfBgRtWygb3VIYnSeOBrebufAlr7F9mFUPAJGj04=",
    '{"ToUserName":"gh_97417a04a28d","FromUserName":"o9AgO5Kd5ggOC-bXrbNODIiE3bGY","CreateTime":1714112445,'
    '"MsgType":"event","Event":"debug_demo","debug_str":"hello world"}',
)
W4 = Vector(
    "1713424427",
    "415670741",
    "1b9339964ed2e271e7c7b6ff2b0ef902fc94dea1",
    "ELGduP2YcVatjqIS+eZbp80MNLoAUWvzzyJxgGzxZO/5sAvd070Bs6qrLARC9nVHm48Y4hyRbtzve1L32tmxSQ==",
    '{"demo_resp":"good luck"}',
)
W6A = Vector(
    "1700000000",
    NONCE,
    "77054a43210e9092081476b2914b79bb7a31900b",
    "Q3stYC6hdFzMh9T8HCvyDOijj+4zIgvMT9VuUUUXZ83/ZjADiDm6BjQrcgkxYnYXJDHAFQkxjjNqAzdWMh893eVTiXImDsyil84BlJSw9oYpwRMLZkeH"
    "QrG9e4TJzd7FCBIlRR94jpH8xF/CuksAQLWcTn2jtMrff+iXTmOzXR3nI5hgYZDt/jRdUQTkbJUnxFEC4anJtDdlwds1NL+A81eco6BNHwsHlNHHX8rp"
    "aKJQL2u6OgtASiNMdRhlQW5BUGbWl5c6mN60J+PaVNU6Jb7ZoQTfsoOq8ImJgK2+t3osRRqPGJAPCxB+4R9xvJl+nMsIf9P3f/0h/X1nJCnASHudB+uY"
    "XtpvpEgFm83trO9dHSFPLqEjeHUqBbMvTlnWS001Ot/GpMVWI8I8pD0vDLax0TwGEqOKCke5XIYXZNw=",
    "<xml><ToUserName><![CDATA[gh_abcdef012345]]></ToUserName>"
    "<FromUserName><![CDATA[oAbCdEfGhIjKlMnOpQrStUvWxYz1]]></FromUserName><CreateTime>1700000000</CreateTime>"
    "<MsgType><![CDATA[text]]></MsgType><Content><![CDATA[你好 world]]></Content>"
    "<MsgId>24345678901234567</MsgId></xml>",
)
W6B = Vector(
    "1700000000",
    NONCE,
    "24e9f291614a6a869e59d79d34b14ecedd2f4b71",
    "Q3stYC6hdFzMh9T8HCvyDI4OFzVNXy1hzMgwxpcjW4Z3o6yfCFU64yan0zEQFjd+901Y4fj65nJaAMrcX0BFFpR39ICeeS0IFJVnlIncEMjUM5ebSgsG"
    "/DwhjbH/GQiguOPKOQ0WpvbMZhml/53dQtFaB3gbPgGMWkSzeVEPcKMrUAh0sOctVnhhjdMDuwgVGJRnI5Xx2Og2gtfKgVgYIM9YSJLo0gXdCf2m/WhD"
    "ss7Y1PJ930R6YTbKYR82t4MsDKejd1fIREcuce8E/UUAGpIzPXrHcrnQpTd4TCZGYWj68+66CKngYiepdDBtMiWFu9Hx8EwHbLE2Ffo34Gd0itEts5KE"
    "DIBAJF5ZyNG9QMy1pv2/D8Fd4AXgymaXiGtsYlpuyY2ROJaPE64IjKZwVrMHYCM/mZ1AFJ/sRk+HGMQ=",
    "<xml><ToUserName><![CDATA[gh_abcdef012345]]></ToUserName>"
    "<FromUserName><![CDATA[oAbCdEfGhIjKlMnOpQrStUvWxYz1]]></FromUserName><CreateTime>1700000000</CreateTime>"
    "<MsgType><![CDATA[event]]></MsgType><Event><![CDATA[subscribe]]></Event><EventKey><![CDATA[]]></EventKey></xml>",
)
W9 = Vector(
    "1700000001",
    NONCE,
    "85ee978584c9b80bc462a5265d397d4036754868",
    "Q3stYC6hdFzMh9T8HCvyDGDSMBBiLh+ieA3Oce63MtCHkyVOWu/Z4PxhvSCtqhzsQvtTWSnhPgq/ad2PobCmhhCl44aALvYmLbynTWWNY6UVQovR1mlr"
    "E5yx8OkBCJlri19dUM00go0e60Tm4NzAV9YuZdoY2hrrgXDJ1Yh3fZG6SQKXuh3e4aBS5FLbeMReYPjVPpSZYIYXpJOemMxSof7hIC/+tI7UX+ll+jK3"
    "OIbDv7klImIXXl+aUJ44GT8F5P2XesQIjgfrK6PFFjqq/YtRNUnFjGS2igCB054kdhXisrlecN8Km637YiCqUkMBWJ94s7pl7zDBYDvbGYw7Rm5GzwJB"
    "kFA5N1kK6zxoJArZCQfy8I8qz3TbbpjYN3x/",
    "<xml><ToUserName><![CDATA[oAbCdEfGhIjKlMnOpQrStUvWxYz1]]></ToUserName>"
    "<FromUserName><![CDATA[gh_abcdef012345]]></FromUserName><CreateTime>1700000001</CreateTime>"
    "<MsgType><![CDATA[text]]></MsgType><Content><![CDATA[ok]]></Content></xml>",
)


# WeCom (corporate WeChat) encrypts the same way, with the CorpID (in AI bots: nothing) in the AppID's place.
CORP_ID = "ww0123456789abcdef"
W7A = Vector(
    timestamp="1700000000",
    nonce="1320562132",
    signature="e2fa4d5b00ac53aa91c0985ff724f89f4aeb213c",
    encrypted=("Q3stYC6hdFzMh9T8HCvyDH0IHJENRtL8kKsqSYgg4gBeiTpo2e8dLmRRhxdna5yMVu0s4RoCX7iZ4LGYqVDhtA=="),
    plaintext=("1616140317555161061"),
)
W7B = Vector(
    timestamp="1700000000",
    nonce="1320562132",
    signature="990378dbde7ff643c36e2133a1d798c91494bcd6",
    encrypted=(
        "Q3stYC6hdFzMh9T8HCvyDCZ7WOd3U4cBL73YIObrV8QJMN/i1RjeCaKj/niyiyheFhtFqO/hvTi8kGSqr0WG6KlYqj9yPfInfC3z"
        "PAHTIUAzt1J9mimvViMYJssjX032w0DEzDKTAH6kMtrnXrvT7yTu9z8nSXCjUs1yp4H0N0y1TndwWta1LQrgked0nBKy5MBGzvBX"
        "Bo1t+aovkAS0zxMgF3CnByfNQs0dJ9uBnsSusTv5o9vxYhUq7h0+gInSmDnKCRQwlUXf9rW5dj4qNjnKPLf+4fqGOxgQnQVrHeOm"
        "AY/l3Q+Vb2qqCv53AD0bq+4LivmLr3ZL3MbVOsMmh9GAC3rp50sEehiFrfPEjVCvqGAWyQ7gnwWaCzSxt7xeYJRpm5qZPdxNQarL"
        "0tzOYTl0rd/33oplvK1Wu+Tfj4Y="
    ),
    plaintext=(
        "<xml><ToUserName><![CDATA[ww0123456789abcdef]]></ToUserName><FromUserName><![CDATA[zhangsan]]></From"
        "UserName><CreateTime>1700000000</CreateTime><MsgType><![CDATA[text]]></MsgType><Content><![CDATA[hi]"
        "]></Content><MsgId>1234567890123456</MsgId><AgentID>1000002</AgentID></xml>"
    ),
)
W8 = Vector(
    timestamp="1700000000",
    nonce="1320562132",
    signature="0a5cb918e0133465f1dd283003db37f6a0ffce6f",
    encrypted=(
        "Q3stYC6hdFzMh9T8HCvyDF4+ILhSc6w7kog1uB+t1mHp4ZhApTpc75Dh7uAxxopjeqiAJzYQjc8CkHVdu3kNu+2wUPN5vKoqrh15"
        "VFl5Ml954ey4JR12vP0npw7LsBSK4bUNEjsQz0mHPrdwlYuh8sy8jQISkgdiBhsDKsRvS5DMHkvUr/uXdNai1ZziES2dciyug05Z"
        "6EUyOaPdkyNliRGLSVSt0HQDSjV+eFEst1dZqPRkMDA3rvNcxEd4VKzy"
    ),
    plaintext=(
        '{"msgid":"MSGID-1","aibotid":"AIBOT-1","chattype":"single","from":{"userid":"zhangsan"},"response_ur'
        'l":"RESPONSEURL","msgtype":"text","text":{"content":"hello robot"}}'
    ),
)

# WeCom documentation, "Encryption and decryption", sample of a text message.
W5_TOKEN = "QDG6eK"
W5_KEY = "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C"
W5_CORP_ID = "wx5823bf96d3bd56c7"
W5_TIMESTAMP, W5_NONCE = "1409659813", "1372623149"
W5_SIGNATURE = "477715d11cdb4164915debcba66cb864d751f3e6"
W5_ENCRYPTED = (
    "RypEvHKD8QQKFhvQ6QleEB4J58tiPdvo+rtK1I9qca6aM/wvqnLSV5zEPeusUiX5L5X/0lWfrf0QADHHhGd3QczcdCUpj911L3vg"
    "3W/sYYvuJTs3TUUkSUXxaccAS0qhxchrRYt66wiSpGLYL42aM6A8dTT+6k4aSknmPj48kzJs8qLjvd4Xgpue06DOdnLxAUHzM6+k"
    "DZ+HMZfJYuR+LtwGc2hgf5gsijff0ekUNXZiqATP7PF5mZxZ3Izoun1s4zG4LUMnvw2r+KqCKIw+3IQH03v+BCA9nMELNqbSf6ti"
    "WSrXJB3LAVGUcallcrw8V2t9EL4EhzJWrQUax5wLVMNS0+rUPA3k22Ncx4XXZS9o0MBH27Bo6BpNelZpS+/uh9KsNlY6bHCmJU9p"
    "8g7m3fVKn28H3KDYA5Pl/T8Z1ptDAVe0lXdQ2YoyyH2uyPIGHBZZIs2pDBS8R07+qN+E7Q=="
)
