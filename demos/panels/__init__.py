"""What is seen on the page: pure functions from objects of mmmed to HTML text with inline SVG.

A panel returns the inside of its frame; the page puts the frame and the heading around it. No panel imports
gradio or matplotlib, so each takes a few milliseconds. Looks live in panels.css, words and numbers in here.
"""
