"""``qt`` as PythonQt offers it: one flat module with everything of Qt, and an application that runs already."""

from PySide6.QtCore import *
from PySide6.QtGui import *
from PySide6.QtWidgets import *
from PySide6.QtWidgets import QApplication

application = QApplication.instance() or QApplication(["bench"])
application.setOrganizationName("Agg2Exp bench")
application.setApplicationName("Agg2Exp bench")
