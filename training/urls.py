"""Addresses of the admin's pages of learning, below /admin/learning/."""

from django.urls import path

from training import views

app_name = "training"
urlpatterns = [
    path("", views.overview, name="overview"),
    path("work/", views.work, name="work"),
    path("launch/", views.launch, name="launch"),
    path("runs/<int:pk>/", views.show_run, name="run"),
    path("runs/<int:pk>/state/", views.run_state, name="run-state"),
    path("runs/<int:pk>/cancel/", views.cancel_run, name="cancel"),
    path("runs/<int:pk>/resume/", views.resume_run, name="resume"),
    path("datasets/build/", views.build, name="build"),
    path("datasets/<slug:name>/", views.show_dataset, name="dataset"),
    path("datasets/<slug:name>/build/", views.build_counted, name="build-counted"),
    path("datasets/<slug:name>/rows.jsonl", views.dataset_file, name="dataset-file"),
    path("adapters/<slug:name>/", views.show_adapter, name="adapter"),
    path("adapters/<slug:name>/decide/", views.decide_adapter, name="decide"),
    path("adapters/<slug:name>/evaluate/", views.evaluate_adapter, name="evaluate"),
    path("adapters/<slug:name>/score/", views.score_adapter, name="score"),
    path("rollback/", views.roll_back, name="rollback"),
    path("compare/", views.compare, name="compare"),
    path("evaluations/<int:pk>/", views.show_evaluation, name="evaluation"),
    path("test-sets/freeze/", views.freeze_set, name="freeze"),
    path("bases/build/", views.build_base, name="build-base"),
]
