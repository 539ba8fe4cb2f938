"""``slicer.i18n`` without a translation loaded."""


def tr(text, context=None):
    return text


def translate(context, text, disambiguation=None, n=-1):
    return text
