"""Configurations whose parts are well formed and yet make no sense, and what is told; then what is told of valid ones."""

from pathlib import Path

import pytest

from discovery.config.load import Sources, load
from discovery.config.tree import ConfigError

from .rig import BASE, MACHINE, loaded, options, refusal


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('datacenter = ""', "datacenter cannot be empty"),
        ('datacenter = "dc 1"', 'datacenter cannot be "dc 1". Please use only [a-z0-9-_]'),
        ('datacenter = "dc.1"', 'datacenter cannot be "dc.1". Please use only [a-z0-9-_]'),
        ("bootstrap = true", "'bootstrap = true' requires 'server = true'"),
        ("bootstrap_expect = 3", "'bootstrap_expect > 0' requires 'server = true'"),
        ("bootstrap_expect = 1", "'bootstrap_expect > 0' requires 'server = true'"),
        ("bootstrap_expect = -1", "bootstrap_expect cannot be -1. Must be greater than or equal to zero"),
        ('segment = "a"', "Network segments are not supported in this version of Consul"),
        (
            "check_output_max_size = 0",
            "check_output_max_size must be positive, to discard check output use the discard_check_output flag",
        ),
        ("raft_trailing_logs = -1", "raft_trailing_logs cannot be -1. Must be greater than or equal to zero"),
        ("retry_max = -1", "retry_max cannot be -1. Must be greater than or equal to zero"),
        ('session_ttl_min = "-1s"', "session_ttl_min cannot be -1s. Must be greater than or equal to zero"),
        ('retry_interval = "0s"', "retry_interval cannot be 0s. Must be greater than zero"),
        ('retry_interval_wan = "-1s"', "retry_interval_wan cannot be -1s. Must be greater than zero"),
        ('log_level = "loud"', "Invalid log level: loud. Valid log levels are: [TRACE DEBUG INFO WARN ERR ERROR]"),
        (
            'tls_min_version = "tls9"',
            "TLSMinVersion: value tls9 not supported, please specify one of [tls10, tls11, tls12, tls13]",
        ),
        ('alt_domain = "service.x"', "alt_domain cannot start with {service,connect,node,query,addr,dc1}"),
        ('alt_domain = "dc1"', "alt_domain cannot start with {service,connect,node,query,addr,dc1}"),
        ('ui_content_path = "/a b/"', "ui-content-path can only contain alphanumeric, -, _, or /. received: /a b/"),
        ('ui_content_path = ""', "ui-content-path can only contain alphanumeric, -, _, or /. received: "),
        ('ui_content_path = "/v1/"', "ui-content-path cannot have 'v[0-9]'. received: /v1/"),
        ('encrypt = "abc"', "encrypt has invalid key: illegal base64 data at input byte 0"),
        ('encrypt = "abcd*"', "encrypt has invalid key: illegal base64 data at input byte 4"),
        ('encrypt = "abcdabcd="', "encrypt has invalid key: illegal base64 data at input byte 8"),
        ('encrypt = "YWJj"', "encrypt has invalid key: key size must be 16, 24 or 32 bytes, not 3"),
        (
            'node_meta { "consul-x" = "1" }',
            "node_meta invalid: Couldn't load metadata pair ('consul-x', '1'): Key prefix 'consul-' is reserved for internal use",
        ),
        (
            'node_meta { "a b" = "1" }',
            "node_meta invalid: Couldn't load metadata pair ('a b', '1'): Key contains invalid characters",
        ),
        ('node_meta { "" = "1" }', "node_meta invalid: Couldn't load metadata pair ('', '1'): Key cannot be blank"),
        (
            f'node_meta {{ {"k" * 129} = "1" }}',
            f"node_meta invalid: Couldn't load metadata pair ('{'k' * 129}', '1'): Key is too long (limit: 128 characters)",
        ),
        (
            f'node_meta {{ k = "{"v" * 513}" }}',
            f"node_meta invalid: Couldn't load metadata pair ('k', '{'v' * 513}'): Value is too long (limit: 512 characters)",
        ),
        (
            "node_meta { " + " ".join(f'k{number} = "1"' for number in range(65)) + " }",
            "node_meta invalid: Node metadata cannot contain more than 64 key/value pairs",
        ),
        (
            'services { name = "a" weights { passing = 0 } }',
            "Invalid weight definition for service a: Passing must be greater than 0",
        ),
        (
            'services { name = "a" weights { warning = -1 } }',
            "Invalid weight definition for service a: Warning must be greater or equal than 0",
        ),
        (
            'services { name = "a" weights { passing = 65536 } }',
            "Invalid weight definition for service a: DNS Weight must be between 0 and 65535",
        ),
    ],
)
def test_refused(text: str, message: str) -> None:
    assert refusal(text) == f"{message} (flags-1.hcl:1:1)"


@pytest.mark.parametrize(
    ("section", "text", "message"),
    [
        ("performance", "raft_multiplier = 0", "performance.raft_multiplier cannot be 0. Must be between 1 and 10"),
        ("performance", "raft_multiplier = 11", "performance.raft_multiplier cannot be 11. Must be between 1 and 10"),
        (
            "autopilot",
            "max_trailing_logs = -1",
            "autopilot.max_trailing_logs cannot be -1. Must be greater than or equal to zero",
        ),
        (
            "dns_config",
            "udp_answer_limit = -1",
            "dns_config.udp_answer_limit cannot be -1. Must be greater than or equal to zero",
        ),
        ("dns_config", "a_record_limit = -1", "dns_config.a_record_limit cannot be -1. Must be greater than or equal to zero"),
        (
            "dns_config",
            'recursor_strategy = "all"',
            "dns_config.recursor_strategy must be one of the following values: sequential, random",
        ),
        ("dns_config", 'recursor_timeout = "0s"', "dns_config.recursor_timeout cannot be 0s. Must be greater than zero"),
        ("gossip_lan", 'probe_interval = "0s"', "gossip_lan.probe_interval cannot be 0s. Must be greater than zero"),
        ("gossip_wan", "gossip_nodes = 0", "gossip_wan.gossip_nodes cannot be 0. Must be greater than zero"),
        ("limits", "kv_max_value_size = -1", "limits.kv_max_value_size cannot be -1. Must be greater than or equal to zero"),
        ("unix_sockets", 'mode = "999"', "unix_sockets.mode: invalid mode specified: 999; expected octal digits such as 770"),
        ("http_config", 'allow_write_http_from = ["x"]', "allow_write_http_from: invalid cidr: x"),
        ("http_config", 'allow_write_http_from = ["10.0.0.1"]', "allow_write_http_from: invalid cidr: 10.0.0.1"),
        ("ports", "http = 70000", "ports.http: invalid port: 70000"),
        ("ports", "serf_lan = -1", "ports.serf_lan cannot be switched off"),
        ("ports", "dns = 8500", "HTTP address 127.0.0.1:8500 already configured for DNS"),
        ("ports", "https = 8500", "HTTPS address 127.0.0.1:8500 already configured for HTTP"),
        ("ports", "server = 8500", "RPC Advertise address 127.0.0.1:8500 already configured for HTTP"),
        ("ports", "serf_lan = 8300", "Serf Advertise LAN address 127.0.0.1:8300 already configured for RPC Advertise"),
        ("ports", "serf_wan = 8301", "Serf Advertise WAN address 127.0.0.1:8301 already configured for Serf Advertise LAN"),
        (
            "ports",
            "sidecar_min_port = 22000",
            "sidecar_min_port must be less than sidecar_max_port. To disable, set both to zero.",
        ),
    ],
)
def test_refused_within_a_section(section: str, text: str, message: str) -> None:
    head = f"{section} {{ "
    found = refusal(f"{head}{text} }}")
    # A clash of ports may be told of the other one, which has its default and so no place.
    assert found in (f"{message} (flags-1.hcl:1:{len(head) + 1})", message)
    assert "(flags-1.hcl" in found or "already configured" in found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "bootstrap = true bootstrap_expect = 3",
            "'bootstrap_expect > 0' and 'bootstrap = true' are mutually exclusive (flags-1.hcl:1:32)",
        ),
        ("ports { server = 0 }", "ports.server cannot be switched off (flags-1.hcl:1:23)"),
        ("auto_encrypt { tls = true }", "auto_encrypt.tls can only be used on a client. (flags-1.hcl:1:30)"),
    ],
)
def test_refused_on_servers(text: str, message: str) -> None:
    assert refusal(f"server = true {text}") == message


def test_refused_on_clients() -> None:
    message = "auto_encrypt.allow_tls can only be used on a server. (flags-1.hcl:1:16)"
    assert refusal("auto_encrypt { allow_tls = true }") == message
    assert options("ports { server = 0 }").ports.server == -1


def test_refused_in_development_mode() -> None:
    with pytest.raises(ConfigError, match=r"^'bootstrap_expect > 0' not allowed in dev mode"):
        loaded("bootstrap_expect = 3", dev=True)


def test_two_user_interfaces() -> None:
    assert refusal('ui = true ui_dir = "/ui"') == (
        "Both the ui and ui-dir flags were specified, please provide only one.\n"
        "If trying to use your own web UI resources, use the ui-dir flag.\n"
        "The web UI is included in the binary so use ui to enable it (flags-1.hcl:1:11)"
    )
    assert options('ui = true ui_dir = "/ui"', dev=True).ui_dir == "/ui"


def test_nothing_configured_at_all() -> None:
    with pytest.raises(ConfigError, match=r"^data_dir cannot be empty$"):
        load(Sources(), lambda: MACHINE)


def test_the_data_directory(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    base = 'bind_addr = "127.0.0.1"'
    place = " (flags-1.hcl:1:1)"
    assert refusal('data_dir = ""', base=base) == "data_dir cannot be empty" + place
    assert refusal(f'data_dir = "{file}"', base=base) == f'data_dir "{file}" is not a directory{place}'
    message = f"Error getting info on data_dir: stat {file}/x: not a directory{place}"
    assert refusal(f'data_dir = "{file}/x"', base=base) == message
    assert refusal(r'data_dir = "\x00"', base=base).startswith("Error getting info on data_dir: stat \x00: ")
    assert loaded(base, f'data_dir = "{tmp_path}/new"').options.data_dir == f"{tmp_path}/new"
    assert not (tmp_path / "new").exists()


def test_a_blank_node_name() -> None:
    assert refusal('node_name = " "', base=BASE.replace('node_name = "n"', "")) == "node_name cannot be empty (flags-1.hcl:1:1)"


def test_several_faults_are_told_together() -> None:
    assert refusal('datacenter = "dc 1" log_level = "loud"') == (
        "2 errors occurred:\n"
        '\t* datacenter cannot be "dc 1". Please use only [a-z0-9-_] (flags-1.hcl:1:1)\n'
        "\t* Invalid log level: loud. Valid log levels are: [TRACE DEBUG INFO WARN ERR ERROR] (flags-1.hcl:1:21)\n"
    )


@pytest.mark.parametrize(
    "text",
    [
        'datacenter = "DC_1-a"',
        'log_level = "Warn"',
        'log_level = "err"',
        'encrypt = "cg8StVXbQJ0gPvMd9o7yrg=="',
        "performance { raft_multiplier = 10 }",
        'unix_sockets { mode = "0770" }',
        'http_config { allow_write_http_from = ["127.0.0.1/8", "::1/128"] }',
        "ports { http = -1 dns = 0 serf_wan = -1 }",
        "ports { sidecar_min_port = 0 sidecar_max_port = 0 }",
        'addresses { http = "127.0.0.2" https = "127.0.0.3" } ports { https = 8500 }',
        "limits { rpc_rate = -1 }",
        'alt_domain = "services.x"',
        'ui_content_path = "/v1x/"',
        'ca_file = "/no/such/file" verify_incoming = true verify_outgoing = true',
    ],
)
def test_accepted(text: str) -> None:
    assert options(text)


def test_settled_spellings() -> None:
    found = options('datacenter = "DC1" node_id = "ABC" domain = "Example.COM" alt_domain = "x." primary_datacenter = "DC0"')
    assert (found.datacenter, found.primary_datacenter, found.node_id) == ("dc1", "dc0", "abc")
    assert (found.domain, found.alt_domain) == ("example.com.", "x.")


def test_verifying_host_names_means_using_tls() -> None:
    assert options("verify_server_hostname = true").verify_outgoing


@pytest.mark.parametrize("server", [True, False])
def test_how_an_agent_ends_depends_on_its_mode_unless_told(server: bool) -> None:
    mode = f"server = {str(server).lower()} "
    found = options(mode)
    assert (found.leave_on_terminate, found.skip_leave_on_interrupt) == (not server, server)
    found = options(f"{mode} leave_on_terminate = {str(server).lower()} skip_leave_on_interrupt = {str(not server).lower()}")
    assert (found.leave_on_terminate, found.skip_leave_on_interrupt) == (server, not server)


# --- remarks on valid configurations -------------------------------------------------------------------------------

_TABLE = "See https://www.consul.io/docs/internals/consensus.html#deployment-table"


@pytest.mark.parametrize(
    ("text", "warnings"),
    [
        ("", []),
        ("server = true bootstrap_expect = 3", ["bootstrap_expect > 0: expecting 3 servers"]),
        (
            "server = true bootstrap_expect = 1",
            [
                "BootstrapExpect is set to 1; this is the same as Bootstrap mode.",
                "bootstrap = true: do not enable unless necessary",
            ],
        ),
        ("server = true bootstrap = true", ["bootstrap = true: do not enable unless necessary"]),
        (
            "server = true bootstrap_expect = 2",
            [
                f"bootstrap_expect = 2: A cluster with 2 servers will provide no failure tolerance. {_TABLE}",
                "bootstrap_expect > 0: expecting 2 servers",
            ],
        ),
        (
            "server = true bootstrap_expect = 4",
            [
                "bootstrap_expect is even number: A cluster with an even number of servers does not achieve optimum fault "
                f"tolerance. {_TABLE}",
                "bootstrap_expect > 0: expecting 4 servers",
            ],
        ),
        (
            'telemetry { prefix_filter = ["+a", "b", "", "-c"] }',
            ["Filter rule must begin with either '+' or '-': \"b\"", "Cannot have empty filter rule in prefix_filter"],
        ),
        (
            "enable_script_checks = true",
            [
                "using enable-script-checks without ACLs and without allow_write_http_from is DANGEROUS, use "
                "enable-local-script-checks instead: whoever reaches the HTTP API runs programs on this machine"
            ],
        ),
        ('enable_script_checks = true http_config { allow_write_http_from = ["127.0.0.0/8"] }', []),
        ("enable_local_script_checks = true", []),
        ("raft_protocol = 2", ["raft_protocol = 2 has no effect: there is only protocol 3"]),
        ("raft_protocol = 3", []),
        ("protocol = 3", ["protocol has no effect yet (flags-1.hcl:1:1)"]),
        ("connect { enabled = true }", ["connect.enabled has no effect yet (flags-1.hcl:1:11)"]),
        ("connect { enabled = false }", []),
        (
            "read_replica = true",
            ['"read_replica" is a Consul Enterprise configuration and will have no effect (flags-1.hcl:1:1)'],
        ),
        (
            "acl_enforce_version_8 = true",
            ['config key "acl_enforce_version_8" is deprecated and should be removed (flags-1.hcl:1:1)'],
        ),
        (
            'retry_join_wan = ["provider=gce", "x"]',
            ['retry_join_wan: "provider=gce" has no effect: this program does not ask cloud providers for addresses'],
        ),
        (
            'service { name = "a" namespace = "x" check { ttl = "1s" partition = "y" } }',
            [
                "service.namespace has no effect yet (flags-1.hcl:1:22)",
                "service.check.partition has no effect yet (flags-1.hcl:1:57)",
            ],
        ),
    ],
)
def test_warnings(text: str, warnings: list[str]) -> None:
    assert loaded(BASE, text).warnings == tuple(warnings)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("web-1", ""),
        ("web_1", "due to invalid characters. Valid characters include all alpha-numerics and dashes."),
        ("web.1", "due to invalid characters. Valid characters include all alpha-numerics and dashes."),
        ("wéb", "due to invalid characters. Valid characters include all alpha-numerics and dashes."),
        ("w" * 63, ""),
        ("w" * 64, "due to it being too long. Valid lengths are between 1 and 63 bytes."),
    ],
)
def test_node_names_that_dns_has_no_room_for(name: str, said: str) -> None:
    warnings = loaded(BASE.replace('"n"', f'"{name}"')).warnings
    assert warnings == ((f'Node name "{name}" will not be discoverable via DNS {said}',) if said else ())


def test_an_option_is_named_once_however_many_sources_set_it() -> None:
    text = "connect { enabled = true }"
    assert len(loaded(BASE, text, text).warnings) == 1


def test_warnings_are_single_lines() -> None:
    text = "server = true bootstrap_expect = 2 connect { enabled = true } acl { enabled = true } audit {} raft_protocol = 2"
    assert all("\n" not in warning for warning in loaded(BASE, text).warnings)
