"""Golden requests: made once by an independent implementation and accepted by lark-oapi 1.7.5's own dispatcher."""

ENCRYPT_KEY = "im-gateway-encrypt-key"
VERIFICATION_TOKEN = "im-gateway-verification-token"
APP_ID = "cli_test"
TIMESTAMP = "1700000000"
NONCE = "nonce-1"

CHALLENGE_BODY = (
    b'{"encrypt": "MDEyMzQ1Njc4OWFiY2RlZnMlFOtT/moTuXr2aMXaeb+pi6CgoryAnA5IRXhO7//Br/IBZZWUF/pQt31RyQYwYAH'
    b'59c7830eDxjVS0xDfTi0xjPnXlmOvcbxv6GvhQtPXDkE8xiyrOiayOmiVjOwBOaNRSdQcGyYfNAGlHwxPmKA="}'
)
CHALLENGE_SIGNATURE = "1b6e4aa27df5a1258fa0ffaec26d43cfceac4133be3961c5407dcb6265f32aea"

MESSAGE_BODY = (
    b'{"encrypt": "MDEyMzQ1Njc4OWFiY2RlZuPdVxGYLNqdbUtd8LW7emRfoLP/mwp1eESFqIvI6oOofj/+XAsD98G7xsaM1VNpHRp'
    b"pzwX/JjzF2Tby0DE+TqWbM6qJeG2ILZDOZEtgLI/H+nRu2TaqbHH9ikFJXSzEmi7zlOqL5zwLcWJr1rMpVA0+gzA8Xc054hdakyB"
    b"rmGZnhkg9V+2gwuvNM3AUUut/e9MPjDXq6iARyqJfC3+B4jIrxFXbr2LHtcINzUfyQ0fYX+cft8Hzj0hdaf9ba6KlD8hZLQMDZOW"
    b"zlIUL5f56pDBtdX8hBCJq0yi6xOIJE64OK4lG3r5APXIK+MomvfuhavQgKDfretEYKuJOdLpyyZ3O5w1Kn1frjqvoxTrtzjFOQCu"
    b"vTVm7GT25GEw9G/HE0odfMG5246t4MWubpnQhKgvU4xQK/qVf7vij904N/UYTL7wCfWNyXr8YizxSSDEoMmJy0D7TDfJNLNDH1qT"
    b"56KY1ysRzosVyS5ECYMC/mHks+p2l56gLA4QTlT6NgkzqXC+u9jmd+l533BHOXixqpe4z7/709F1bdbgLkVbAWk/vxAHQffqzc6z"
    b'9uwUmRA+5r0TOUqhlItsTVQBJMDhUI6L/ZDoRZ/T/IoBRsiz9ZldU/NOMS3F4oe/So9LIUSwfhGycE0cpaa5xLBSVjj1U3Mc="}'
)
MESSAGE_SIGNATURE = "bad924c6240d984fe9ee46a08660df42306204efe699ae7593caf4b348894967"

CARD_ACTION_BODY = (
    b'{"encrypt": "MDEyMzQ1Njc4OWFiY2RlZuPdVxGYLNqdbUtd8LW7emRfoLP/mwp1eESFqIvI6oOo12K6OoEGr5D/kMZuUfF28XM'
    b"MsN3cKwaP4zIX0nUP8ThJBrq3SYEneGw1BRVWaUHBk04OMZXqjdt5v07GTZS6qzDIlhSF+W3hjKmBtLd2lso85vOCJG0h2yuA7x9"
    b"bKqLjAz++HpWcJroPgqt3kczXwKHIBUJKRYSv+ICxBtUdDV+ck/Pl0UNBGcFX3zesWw07cbFoCI/hK2+a8yNhsNrebE/di6TlWV7"
    b"anFVjgzu7K3gHDr4jn0gbTeS164WDxT8xZdwpoLZdv/5PBjz+CYHgCoxurmkRve5qBUqtPDVEkTL/ybHn48tSOTTt0CtFEthNzb2"
    b"1a2FudkFLKUhxpWjQ8ka6yDh1C0IErconA09vFr/CACJemTLRROq/Wn9bBfLYQWczpSvNXSn2Ybe159ovX92KLE0T7nMAgaKe1GV"
    b'uuLpHTPubekDVh0KkX0lLbNBy0K8enlRQYC1AyOCRcXj18VX/ikaPTCKUnsqIu5ymR/ywqYeJ5M1i2QKRkXVt8jK1"}'
)
CARD_ACTION_SIGNATURE = "968169393b553bd0cd44e7f175a54c05eaa18bd03739dcda643ed139b96e49fe"
