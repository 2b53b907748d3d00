"""The limit of a client agent's requests."""

from discovery.daemon.rate_limit import TokenBucket


def test_a_burst_is_let_through_and_then_the_rate_holds() -> None:
    bucket = TokenBucket(10.0, 3, 0.0)
    assert [bucket.admits(0.0) for _ in range(5)] == [True, True, True, False, False]
    assert [bucket.admits(0.15) for _ in range(3)] == [True, False, False]
    assert [bucket.admits(100.0) for _ in range(5)] == [True, True, True, False, False]


def test_a_negative_rate_is_no_limit_until_configured_otherwise() -> None:
    bucket = TokenBucket(-1.0, 1, 0.0)
    assert all(bucket.admits(0.0) for _ in range(1000))
    bucket.configure(0.0, 1)
    assert [bucket.admits(0.0), bucket.admits(9.0)] == [True, False]
