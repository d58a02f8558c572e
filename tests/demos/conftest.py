"""The folder demos/ as the package `mmmed_demo`, wherever the tests run."""

from mmmed.cli.demo import demo_package

demo_package()
