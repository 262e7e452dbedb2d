"""The views of the Django project for tests."""

from django.contrib.auth import get_user_model, login, logout
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
    request.analytics.track("Account Viewed")  # before anything has loaded the user
    return HttpResponse(f"<title>Account of {request.user.get_username()}</title>")


async def account_async(request):
    request.analytics.track("Account Viewed")
    user = await request.auser()
    return HttpResponse(f"<title>Account of {user.get_username()}</title>")


def log_out(request):
    request.analytics.track("Logged Out")
    logout(request)
    return HttpResponse("<title>Goodbye</title>")


urlpatterns = [
    path("products/<number>", product),
    path("login", log_in),
    path("account", account),
    path("account-async", account_async),
    path("logout", log_out),
]
