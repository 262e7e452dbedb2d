"""The views of the Django project for tests."""

from django.contrib.auth import get_user_model, login
from django.http import HttpResponse
from django.urls import path


def product(request, number):
    request.analytics.track("Product Viewed", {"product_id": number})
    return HttpResponse("<title>Coffee</title><h1>Coffee, 1 kg</h1>")


def log_in(request):
    user, _ = get_user_model().objects.get_or_create(username="ann", email="ann@example.com")
    login(request, user)
    return HttpResponse("<title>Welcome</title>")


def account(request):
    return HttpResponse(f"<title>Account of {request.user.get_username()}</title>")


urlpatterns = [path("products/<number>", product), path("login", log_in), path("account", account)]
