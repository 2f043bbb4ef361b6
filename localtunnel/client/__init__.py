"""What runs on the laptop.

app         the client: sessions one after the other, for as long as its user wants
config      the typed settings
events      what happens, as values for whoever shows it
discovery   asking the server's frontend where its backend is
session     one control connection: opening the tunnel, heartbeats
identity    who this client is
stall       noticing that this machine has stood still
proxies     the pool of proxy connections of one session
visits      the visitors that are being served
visit       one visitor on its way to the upstream
upstream    the local server: where it is, and dialling it
"""
