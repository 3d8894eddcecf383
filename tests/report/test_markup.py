"""Markup escapes whatever is not markup."""

from tsjax.report import markup


def test_markup_escapes_all_but_itself():
  tag = markup.tag("p", "<b>", markup.tag("b", "&"), title='"')
  assert tag == '<p title="&quot;">&lt;b&gt;<b>&amp;</b></p>'


def test_text_drops_what_no_document_may_hold():
  assert markup.text("a\x00b\ud800c\n") == "a\ufffdb\ufffdc\n"
