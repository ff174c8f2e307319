#part-handler
# Takes the user's document apart after goloo's boothook has run. Where cloud-init does it itself, it does so
# before anything runs, and a document that it can't take apart (an address that doesn't answer, a part that is
# no gzip) ends the whole stage. Here it costs the document alone: "Failed calling handler" in cloud-init.log.
import sys

from cloudinit import handlers

handler_version = 2
frequency = "always"


def list_types():
    return ["application/x-goloo-document"]


def handle_part(cloud, ctype, filename, payload, frequency):
    if ctype.startswith("__"):
        return
    # The walk that is under way has the handlers of all types.
    frame = sys._getframe()
    while frame.f_code is not handlers.walker_callback.__code__:
        frame = frame.f_back
    source = cloud.datasource
    parts = source._filter_xdata(source.ud_proc.process(payload))
    handlers.walk(parts, handlers.walker_callback, frame.f_locals["data"])
