"""Runs in a capsule with a Jupyter kernel: has it import and use what takes long the first time.

An emulated guest takes longer for that than a client waits for a cell. Nothing of it is left in the namespace
that cells share.
"""

from jupyter_client import BlockingKernelClient, find_connection_file

CELL = """
def _warm():
    import io
    import matplotlib.pyplot as plt, numpy, pandas, requests, seaborn
    from IPython.display import HTML
    figure = plt.figure()
    seaborn.barplot(data=pandas.DataFrame({"x": [1], "y": numpy.ones(1)}), x="x", y="y")
    for kind in "png", "jpeg":
        figure.savefig(io.BytesIO(), format=kind)
    plt.close(figure)
_warm()
del _warm
"""

client = BlockingKernelClient(connection_file=find_connection_file())
client.load_connection_file()
# Without heartbeats: an emulated kernel that is still importing misses some, which would count as its end.
client.start_channels(hb=False)
client.wait_for_ready(timeout=300)
reply = client.execute_interactive(CELL, store_history=False, timeout=300)
if reply["content"]["status"] != "ok":
    raise SystemExit("\n".join(reply["content"]["traceback"]))
