"""What goes on: heads rewritten for the next hop, and whom a request comes from.

It reads messages and options. It sends nothing, and shows no page.
"""
