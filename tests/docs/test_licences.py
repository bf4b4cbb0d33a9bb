from docs import licences


def rows(table: str) -> dict[str, list[str]]:
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {row[0]: row[1:] for row in cells}


def test_the_page_states_the_licence_of_every_requirement_as_its_package_does():
    page = licences.PAGE.read_text(encoding="utf-8")
    expected = rows(licences.direct_table(licences.known_licences(page)))
    assert set(expected) == set(licences.direct_requirements())
    assert {"torch", "av", "pesq"} <= set(expected)
    for name, row in expected.items():
        assert all(row[:2]), name
        assert f"| {name} | {' | '.join(row)} |" in page, "run python -m docs.licences"
    assert licences.HEAD in page, "run python -m docs.licences"


def test_the_page_has_every_package_that_the_tests_run_with():
    known = licences.known_licences(licences.PAGE.read_text(encoding="utf-8"))
    assert set(licences.all_packages()) <= set(known), "run python -m docs.licences"


def test_libraries_that_restrict_their_use_are_never_required():
    requirements = licences.direct_requirements()
    for name in ("av", "pesq", "soxr", "fairseq2"):
        assert licences.CORE not in requirements[name]
        assert name in licences.NOTES
