"""What runs the cells of a page inside the reader's browser: a small kernel, and a stand-in for matplotlib.

It needs NumPy alone. `book/_static/in_page/worker.js` starts it; nothing else in bnlab imports it.
"""
