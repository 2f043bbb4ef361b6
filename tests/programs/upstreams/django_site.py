"""Django with its admin alone, on the port and in the directory of its arguments; ann has the password ``secret``."""

import sys
from importlib import import_module
from pathlib import Path

import django
from django.conf import settings
from django.core.management import call_command
from django.urls import path

PORT, DIRECTORY = sys.argv[1], Path(sys.argv[2])

settings.configure(
    SECRET_KEY="of no use to anybody",
    DEBUG=True,
    # Not what DEBUG allows, which is every name below localhost.
    ALLOWED_HOSTS=["localhost"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=[
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.messages",
        "django.contrib.sessions",
    ],
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {
                "context_processors": [
                    "django.template.context_processors.request",
                    "django.contrib.auth.context_processors.auth",
                    "django.contrib.messages.context_processors.messages",
                ]
            },
        }
    ],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": DIRECTORY / "django.sqlite3"}},
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    STATIC_URL="static/",
)
django.setup()

# Django takes these once it has been set up, and not before.
site = import_module("django.contrib.admin").site
users = import_module("django.contrib.auth").get_user_model().objects

urlpatterns = [path("admin/", site.urls)]

call_command("migrate", verbosity=0)
users.create_superuser("ann", password="secret")
call_command("runserver", f"127.0.0.1:{PORT}", use_reloader=False)
