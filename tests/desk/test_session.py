import pytest

from tidegate.desk.session import local_path


@pytest.mark.parametrize("wanted", ["/", "/alerts/tx-1", "/decisions?id=1", "/alerts/a%2Fb"])
def test_pages_of_the_desk_may_be_asked_for(wanted):
    assert local_path(wanted) == wanted


@pytest.mark.parametrize(
    "wanted",
    [
        "",
        "//example.org",
        "/\\example.org",
        "https://example.org",
        "javascript:alert(1)",
        "/a\r\nSet-Cookie: x",
        "\t//x",
    ],
)
def test_anything_else_leads_home(wanted):
    assert local_path(wanted) == "/"
