"""The application for Django's development server, on the port of its argument."""

import sys

import django
from django.conf import settings
from django.core.management import call_command
from django.http import HttpRequest, HttpResponse
from django.urls import path

# The middleware is among those of every new project: it counts answers, and their connections stay.
settings.configure(
    ALLOWED_HOSTS=["*"],
    DEBUG=True,
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="of no use to anybody",
)
django.setup()

STATUSES = {"empty": 204, "unchanged": 304}


def view(request: HttpRequest, way: str, name: str) -> HttpResponse:
    """Answer one request."""
    if way == "echo":
        len(request.body)
    return HttpResponse(f"{request.method} {name}\n", status=STATUSES.get(way, 200), content_type="text/plain")


urlpatterns = [path("<way>/<name>", view)]

call_command("runserver", f"127.0.0.1:{sys.argv[1]}", use_reloader=False)
