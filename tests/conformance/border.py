"""The border between the Testsuite's cases and a Python 3 autobahn. Installed as `autobahntestsuite.border`.

A case speaks "byte characters": text in which each character stands for one octet (U+0000 to U+00FF), because
that is what a Python 2 literal such as '\\xce\\xba' became. autobahn speaks bytes. Everything that crosses is
translated here, so the cases themselves stay as upstream wrote them.
"""

import binascii
import os


def octets(data):
    """Byte characters as bytes; bytes and None as they are."""
    return data.encode("latin-1") if isinstance(data, str) else data


def characters(data):
    """Bytes as byte characters; text and None as they are."""
    return data.decode("latin-1") if isinstance(data, (bytes, bytearray)) else data


def received(case, message):
    """A message as its case compares it: the compression cases (they have TESTDATA) hash bytes."""
    return message if hasattr(case, "TESTDATA") else characters(message)


# Stands in for `binascii` in the cases.


def b2a_hex(data):
    return binascii.b2a_hex(octets(data)).decode("ascii")


hexlify = b2a_hex


# Stands in for `pkg_resources` in the cases.


def resource_filename(_package, name):
    return os.path.join(os.path.dirname(__file__), name)


# What reports are made of.


def binLogData(data, maxlen=64):
    tail = " ..."
    if len(data) > maxlen - len(tail):
        return b2a_hex(data[:maxlen]) + tail
    return b2a_hex(data)


def asciiLogData(data, maxlen=64, replace=False):
    tail = b" ..."
    data = octets(data)
    shown = data[:maxlen] + tail if len(data) > maxlen - len(tail) else data
    try:
        return shown.decode("utf8", errors="replace" if replace else "strict")
    except UnicodeDecodeError:
        return "0x" + binLogData(data, maxlen)


def json_default(value):
    return characters(value) if isinstance(value, (bytes, bytearray)) else str(value)


class ReportFile:
    """A UTF-8 file: byte characters are written as the octets they stand for, other text is encoded."""

    def __init__(self, directory, name):
        self.file = open(os.path.join(directory, name), "wb")

    def write(self, text):
        try:
            self.file.write(text.encode("latin-1"))
        except UnicodeEncodeError:
            self.file.write(text.encode("utf8", errors="replace"))

    def close(self):
        self.file.close()


class BytesProtocol:
    """Base of the fuzzing protocol: what a case sends becomes bytes on its way to autobahn."""

    debug = False

    def sendFrame(self, opcode, payload=b"", *args, **options):
        return super().sendFrame(opcode, octets(payload), *args, **options)

    def sendMessage(self, payload, *args, **options):
        return super().sendMessage(octets(payload), *args, **options)

    def sendMessageFrame(self, payload, *args, **options):
        return super().sendMessageFrame(octets(payload), *args, **options)

    def sendMessageFrameData(self, payload, *args, **options):
        return super().sendMessageFrameData(octets(payload), *args, **options)

    def sendPing(self, payload=None):
        return super().sendPing(octets(payload))

    def sendPong(self, payload=None):
        return super().sendPong(octets(payload))

    def sendCloseFrame(self, code=None, reasonUtf8=None, isReply=False):
        return super().sendCloseFrame(code, octets(reasonUtf8), isReply)

    def onCloseFrame(self, code, reasonRaw):
        """Remembers the code that came: autobahn puts 1000 for an invalid one, and the case would pass."""
        try:
            return super().onCloseFrame(code, reasonRaw)
        finally:
            self.remoteCloseCode = code

    def failConnection(self, *args, **options):
        return self._fail_connection(*args, **options)
